set -u
dir=/results
share=$((JOB_COMPLETION_INDEX + 1))
out=$dir/shares/$share
mkdir -p "$dir/shares"
if [ -e "$out/{{ store }}" ]; then
    staleline campaign --resume "$out"{{ options }}
else
    staleline campaign {{ file }} --shard "$share/{{ shards }}" --out "$out"{{ chosen }}{{ options }}
fi
code=$?
# Something is missed or misnamed: a result, and nothing to try once more.
[ "$code" -eq 1 ] && code=0
exit "$code"
