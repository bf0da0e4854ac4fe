#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
# Stands in for checkpatch.pl in the kernel builder's tests: finds long lines, as it calls
# them, and cannot cope with patches that contain `CRASH`.
for patch; do :; done
case $* in
*--strict*--terse*--show-types*) ;;
*) exit 9 ;;
esac
if grep CRASH "$patch"; then
	echo "Died at line 1" >&2
	exit 255
fi
sed -n '/long, long/=' "$patch" | sed "s|.*|$patch:&: CHECK:LONG_LINE: a long, long line|"
echo "total: some"
! grep -q 'long, long' "$patch"
