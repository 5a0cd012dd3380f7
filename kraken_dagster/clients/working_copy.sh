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

base=${TMPDIR:-/tmp}/kraken-$UID
mkdir -m 700 -p -- "$base" || exit 1
if [ ! -O "$base" ] || [ -L "$base" ]; then
  echo "kraken: $base is somebody else's; set TMPDIR for the jobs" >&2
  exit 1
fi

exec 8< "$base"
flock 8 # nobody looks for leftovers while a folder has no lock yet
for left in "$base"/job-*/; do
  [ -d "$left" ] || continue
  (exec 9< "$left" && flock -n 9 && rm -rf -- "$left")
done
scratch=$(mktemp -d -- "$base/job-XXXXXXXX") || exit 1
exec 9< "$scratch"
flock 9
exec 8<&-

program=
trap 'rm -rf -- "$scratch"' EXIT
trap '[ -z "$program" ] || kill -TERM "$program" 2>/dev/null' TERM INT

for file in "${files[@]}"; do
  cp -- "$file" "$scratch/" || exit 1
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
program=$!
wait "$program"
code=$?
# A signal ends the wait, not the program.
while kill -0 "$program" 2>/dev/null; do
  wait "$program"
  code=$?
done
exit "$code"
