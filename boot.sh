#! /bin/sh
# Creates ./configure and what it needs.  Run it once after a checkout.
cd "$(dirname "$0")" || exit 1
for package in autoconf automake; do
    if ! command -v $package > /dev/null; then
        echo "$package not found; install the Debian package $package" >&2
        exit 1
    fi
done
exec autoreconf --install --force --warnings=all,no-portability
