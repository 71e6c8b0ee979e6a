#!/bin/sh
# search.sh MARKER PATTERN FILE: prints how many lines of FILE contain PATTERN, as `grep -c -F` does.
#
# A MARKER other than "-" makes the first run fail with 75 (EX_TEMPFAIL), as a tool does that found a lock or a full
# queue: the run that creates the directory MARKER fails, every later one works.
if [ "$1" != - ] && mkdir "$1" 2>/dev/null; then
    echo "search.sh: temporarily unavailable, try again" >&2
    exit 75
fi
exec grep -c -F -e "$2" -- "$3"
