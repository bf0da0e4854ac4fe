new=$(mktemp -d "$dir/merging.XXXXXX") || exit 3
set --
for share in $(seq 1 {{ shards }}); do
    set -- "$@" "$dir/shares/$share"
done
{{ program }} campaign --merge "$@" --out "$new"
code=$?
# Whole, or not there; in the place of what shares had come to before that were gone on with.
if [ -e "$new/{{ results }}" ]; then
    if [ -e "$dir/merged" ]; then mv -T "$dir/merged" "$new.before" || exit 3; fi
    mv -T "$new" "$dir/merged" || exit 3
    rm -rf "$new.before"
    echo "they are in $dir/merged now"
else
    rm -rf "$new"
fi
exit "$code"