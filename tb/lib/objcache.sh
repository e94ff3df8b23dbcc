#!/bin/sh
# A compile cache for machines without ccache. It knows Verilator's runtime only, which is most of
# the time of a small model's build; every other command just runs.
# Usage: objcache.sh COMPILER ARGUMENTS... SOURCE, with VERILATOR_ROOT and OBJCACHE_DIR set.
set -eu
output=
previous=
source=
for argument; do
    [ "$previous" = "-o" ] && output=$argument
    previous=$argument
    source=$argument
done
case $source in
"$VERILATOR_ROOT"/include/*.cpp) ;;
*) exec "$@" ;;
esac
[ -n "$output" ] || exec "$@"

# The headers count too, and so does the compiler.
key=$({
    "$1" --version
    printf '%s\n' "$@"
    cat "$source" "$VERILATOR_ROOT"/include/*.h
} | sha256sum | cut -c 1-32)
stored=$OBJCACHE_DIR/$key.o
if [ ! -f "$stored" ]; then
    "$@"
    mkdir -p "$OBJCACHE_DIR"
    cp "$output" "$stored.$$"
    mv "$stored.$$" "$stored" # atomic: other builds may be at it
else
    cp "$stored" "$output"
fi
