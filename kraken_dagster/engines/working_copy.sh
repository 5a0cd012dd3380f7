# Runs a command on a raw file that it can't alter:
#   bash working_copy.sh COUNT FILE... COMMAND ARGUMENT...
# The first file is the raw file, or its folder. In the command, and in RAW_FILE_PATH, its path is
# replaced by that in a temporary folder of the job's own, on the machine that runs it. The variable
# `when`, which is set before this, says what is in it and where it is made:
#   always   with a copy of each file, for software that writes to what it opens;
#   needed   only where the job could alter the raw file, or SQLite would have to write beside it:
#            with copies of databases and their journals, and of what a link would let the job
#            write to, as far as there is room; and with links to all else.
# KRAKEN_OWN_SCRIPT names a job script to run in the command's place, which finds that in
# CUSTOM_COMMAND.
#
# The folder goes with the job: at its end, when it is told to end, and, if it was killed beyond
# any saying, when the next job comes to that machine. Who lives holds a lock on his folder.
count=$1
shift
files=("${@:1:count}")
shift "$count"
original=${files[0]}

# Reads no further than the first bytes and starts no program: there may be 40,000 files.
is_database() {
  local LC_ALL=C head=''
  { IFS= read -r -d '' -n 16 head < "$1"; } 2>/dev/null
  [ "$head" = 'SQLite format 3' ]
}

# A database in WAL mode opens only where SQLite may write beside it.
in_wal_mode() { [[ $(od -An -tu1 -j18 -N2 -- "$1" 2>/dev/null) == *2* ]]; }

any() { [ -n "$(find "$@" -print -quit 2>/dev/null)" ]; }

is_needed() {
  [[ $original == /* && -e $original ]] || return 1 # and the program says so best
  [ -w "${original%/*}/" ] && return 0
  any "$original" '(' -writable -o -user "$EUID" ')' && return 0
  [ -d "$original" ] || return 1
  any "$original" -type f '(' -name '*-wal' -o -name '*-journal' ')' && return 0
  local file
  while IFS= read -r -d '' file; do
    is_database "$file" && in_wal_mode "$file" && return 0
  done < <(find "$original" -type f -print0 2>/dev/null)
  return 1
}

if [ "$when" = needed ] && ! is_needed; then
  [ -z "${KRAKEN_OWN_SCRIPT-}" ] || set -- "$KRAKEN_OWN_SCRIPT"
  exec "$@"
fi

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
ended=
trap 'ended=yes; kill -TERM "$!" 2>/dev/null' TERM INT # to a copy that is made, or the program

copy=$scratch/${original##*/}

# A signal ends the wait, and what is waited for.
finished() { wait "$!" || { wait; exit 1; }; }

# Copies, in the place of links, what of the folder stands on stdin, each name ended by NUL.
copy_listed() {
  cd -- "$original" && exec xargs -0 -r cp --parents --remove-destination -t "$copy" --
}

# Whether so many bytes leave half of what is free on the node's disk. Where that is its memory
# they count as the job's, and only few are taken.
has_room() {
  local free
  free=$(df -B1 --output=avail -- "$scratch" | tail -n 1)
  [ "$1" -le $((free / 2)) ] || return 1
  [ "$(stat -f -c %T -- "$scratch")" != tmpfs ] || [ "$1" -le $((256 * 1024 * 1024)) ]
}

look_through_folder() {
  local size name
  while IFS= read -r -d '' name; do
    size=${name%% *} name=${name#* }
    case $name in
      *-wal | *-shm | *-journal) databases+=("$name") ;;
      *)
        if is_database "$original/$name"; then
          databases+=("$name")
        elif [ -w "$original/$name" ]; then
          open+=("$name") open_bytes=$((open_bytes + size))
        fi
        ;;
    esac
  done < <(cd -- "$original" && find . -type f -printf '%s %p\0')
}

databases=() open=() open_bytes=0
if [ "$when" = always ]; then
  for file in "${files[@]}"; do
    cp -- "$file" "$scratch/" &
    finished
  done
elif [ -d "$original" ]; then
  cp -rs -- "$original" "$scratch/" & # its folders, with a link to each file
  finished
  find "$copy" -type d -exec chmod u+w -- {} +
  look_through_folder
elif [ -w "$original" ]; then
  open=("$original") open_bytes=$(stat -c %s -- "$original")
else
  ln -s -- "$original" "$copy" || exit 1
fi
if [ "${#open[@]}" -gt 0 ] && ! has_room "$open_bytes"; then
  echo "kraken: no room for a copy of $original in $base: the program works on the backup," \
    "which it could alter, and which is compared with its record afterwards" >&2
  [ -d "$original" ] || ln -s -- "$original" "$copy" || exit 1
  open=()
fi
if [ -f "$original" ] && [ "${#open[@]}" -gt 0 ]; then
  cp -- "$original" "$scratch/" &
  finished
elif [ "${#databases[@]}" -gt 0 ] || [ "${#open[@]}" -gt 0 ]; then
  printf '%s\0' "${databases[@]}" "${open[@]}" | copy_listed &
  finished
fi
chmod -R u+w -- "$scratch"

export RAW_FILE_PATH=$copy
command=()
for argument in "$@"; do
  argument=${argument//"$original"/"$copy"}
  command+=("$argument")
done
if [ -n "${KRAKEN_OWN_SCRIPT-}" ]; then
  quoted='' # for any shell
  for argument in "${command[@]}"; do
    if [[ ! $argument =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then
      argument=\'${argument//"'"/"'\\''"}\'
    fi
    quoted+=" $argument"
  done
  [ -z "${CUSTOM_COMMAND-}" ] || export CUSTOM_COMMAND=${quoted# }
  command=("$KRAKEN_OWN_SCRIPT")
fi

[ -z "$ended" ] || exit 143
"${command[@]}" &
wait "$!"
code=$?
# A signal ends the wait, not the program.
while kill -0 "$!" 2>/dev/null; do
  wait "$!"
  code=$?
done
exit "$code"
