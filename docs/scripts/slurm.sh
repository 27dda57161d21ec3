#!/usr/bin/env bash
# One training on many machines, under Slurm: sbatch docs/scripts/slurm.sh
#
# Adapt the #SBATCH lines, and how your cluster makes Python and MPI available. The files of the training, the rows and
# the run folder, must be on a file system that all nodes share.
#SBATCH --job-name=xpnn
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1      # ranks of a machine; see what pays in the how-to "Many machines"
#SBATCH --cpus-per-task=8        # cores of a rank
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120        # two minutes before the limit: the run saves itself and ends
#SBATCH --requeue                # after the failure of a node, the job starts again, and resumes
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
set -euo pipefail

# module load python mpich
# source "$HOME/xpnn/bin/activate"

# RUN=runs/job-17 sbatch docs/scripts/slurm.sh goes on with the run that an earlier job began.
run=${RUN:-runs/job-$SLURM_JOB_ID}
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK NUMBA_NUM_THREADS=$SLURM_CPUS_PER_TASK

if [ -e "$run/config.json" ]; then # written first; without a checkpoint, resuming begins anew
  command=(xpnn train --distributed --resume "$run")
else
  command=(xpnn train mnist-98 --distributed --reproducible --backend numba --out "$run")
fi

# pmi2 is for MPICH and its relatives; `srun --mpi=list` says what there is (pmix for Open MPI).
srun --mpi=pmi2 --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 "${command[@]}"
