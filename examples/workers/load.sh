#!/bin/sh
# A worker as a shell loop: answers each task with the load of the machine, and starts no process for it.
# `type` and `id` come first in a frame, so that no JSON parser is needed to find them.
read -r _
echo '{"type":"ready","version":1}'
while IFS= read -r frame; do
    case $frame in '{"type":"task","id":'*) ;; *) continue ;; esac
    id=${frame#'{"type":"task","id":'}
    read -r load _ </proc/loadavg
    echo "{\"id\":${id%%[!0-9]*},\"exit_code\":0,\"stdout\":\"$load\"}"
done
