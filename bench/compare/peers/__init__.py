"""The programs that xpnn is measured against, one file each; each needs its package only when it is asked for."""
