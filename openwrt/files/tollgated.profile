# bash completes the commands of tollgated; BusyBox's ash, which reads this too, completes names of files only.
[ -z "$BASH_VERSION" ] || complete -o default -C 'sh -c "exec tollgated completion 2>/dev/null"' tollgated
