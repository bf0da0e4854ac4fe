[ -e "$dir/merged/{{ results }}" ] && exec {{ program }} campaign --report "$dir/merged"
new=$(mktemp -d "$dir/merging.XXXXXX") || exit 3
set --
for share in $(seq 1 {{ shards }}); do
    set -- "$@" "$dir/shares/$share"
done
{{ program }} campaign --merge "$@" --out "$new"
code=$?
# Whole, or not there.
if [ -e "$new/{{ results }}" ]; then
    mv -T "$new" "$dir/merged" || exit 3
    echo "they are in $dir/merged now"
fi
exit "$code"
