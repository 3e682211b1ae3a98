#! /bin/sh
# Creates ./configure and what it needs.  Run it once after a checkout.
cd "$(dirname "$0")" && autoreconf --install --force --warnings=all,no-portability
