#!/bin/bash
# A processing job. Kraken fills in the parts between @ signs, each value quoted, and gives the
# whole to sbatch on its stdin. The job finds nothing of the environment that submitted it.
@exports@
# Programs that the script starts by srun would else find nothing of what is exported here.
export SLURM_EXPORT_ENV=ALL

kraken_name=@name@
# A mount that is away on this node is no failure of the job: 75, and nothing that says it began.
@stores@
kraken_stores || exit 75
cd -- "$OUTPUT_PATH" || exit 1
rm -f -- kraken.exit_code
@begun@
printf '%s %s\n' "${SLURM_JOB_ID:-}" "$kraken_name" > kraken.job_id
printf 'slurm_job_id: %s\n' "${SLURM_JOB_ID:-}"

@setup@

# Slurm tells nobody but the script to end, and kills at once what is left when it has ended.
trap 'kill -TERM "$!" 2>/dev/null' TERM
@command@ &
wait "$!"
kraken_code=$?
while kill -0 "$!" 2>/dev/null; do # a signal ends the wait, not the command
  wait "$!"
  kraken_code=$?
done
if ! kraken_output; then # what has ended well is not run again if its result is there after all
  [ "$kraken_code" = 0 ] && exit 193
  exit 75
fi
# Written last and by a rename, so that it is there whole or not at all.
printf '%s %s %s\n' "$kraken_code" "${SLURM_JOB_ID:-}" "$kraken_name" > kraken.exit_code.part &&
  mv -f -- kraken.exit_code.part kraken.exit_code || [ "$kraken_code" = 0 ] || exit 75 # full
exit "$kraken_code"
