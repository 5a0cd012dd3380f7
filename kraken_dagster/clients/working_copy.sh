# Runs a command on copies of its files: bash working_copy.sh COUNT FILE... COMMAND ARGUMENT...
# The copies are in a temporary folder of the job's own, on the machine that runs it. In the
# command, and in RAW_FILE_PATH, the first file's path is replaced by that of its copy.
#
# The folder goes with the job: at its end, when it is told to end, and, if it was killed beyond
# any saying, when the next job comes to that machine. Who lives holds a lock on his folder.
count=$1
shift
files=("${@:1:count}")
shift "$count"

base=${TMPDIR:-/tmp}/kraken-$UID-$HOSTNAME # TMPDIR may be shared, and locks may not
mkdir -m 700 -p -- "$base" || exit 1
if [ ! -O "$base" ] || [ -L "$base" ]; then
  echo "kraken: $base is somebody else's; set TMPDIR for the jobs" >&2
  exit 1
fi

exec 8< "$base"
flock 8 # nobody looks for leftovers while a folder has no lock yet
for left in "$base"/job-*/; do
  [ -d "$left" ] || continue
  # It may be gone by now, with a job that has just ended.
  (exec 9< "$left" && flock -n 9 && rm -rf -- "$left") 2>/dev/null
done
scratch=$(mktemp -d -- "$base/job-XXXXXXXX") || exit 1
exec 9< "$scratch"
flock 9
exec 8<&-

trap 'rm -rf -- "$scratch"' EXIT
trap 'kill -TERM "$!" 2>/dev/null' TERM INT # to a copy that is made, or the program

for file in "${files[@]}"; do
  cp -- "$file" "$scratch/" &
  wait "$!" || { wait; exit 1; }
done
chmod -R u+w -- "$scratch"

original=${files[0]}
copy=$scratch/${original##*/}
export RAW_FILE_PATH=$copy
command=()
for argument in "$@"; do
  argument=${argument//"$original"/"$copy"}
  command+=("$argument")
done

"${command[@]}" &
wait "$!"
code=$?
# A signal ends the wait, not the program.
while kill -0 "$!" 2>/dev/null; do
  wait "$!"
  code=$?
done
exit "$code"
