# Debian packages that this project needs, and one function that installs
# them.  Sourced by utilities/quickstart, tests/run and others; not a program.
#
# Copyright (c) 2026 The ovs-vhostuser Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at:
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

# What ./boot.sh, configure and make need: OVS's source and its libraries.
DEPS_BUILD="autoconf automake libtool make gcc libc6-dev pkg-config python3
            openvswitch-source libssl-dev libcap-ng-dev libunbound-dev
            libxdp-dev libbpf-dev libnuma-dev
            libatomic1 python3-docutils"

# What boots the small guests of quickstart and tests/system.  Their kernel is
# fetched by utilities/guest-image, without installing it on this machine.
DEPS_GUEST="qemu-system-x86 busybox-static cpio gzip xz-utils ethtool procps
            iproute2"

# What tests/run needs on top of both.  dpdk-dev has the testpmd program,
# openvswitch-switch-dpdk the switch that we compare ours with, and with
# libdpdk-dev configure has ours built for a switch with DPDK, too.
DEPS_TEST="clang llvm python3-pytest python3-pytest-xdist
           python3-scapy dpdk-dev gnuplot-nox
           openvswitch-switch-dpdk libdpdk-dev iproute2 tcpdump git sparse
           logrotate"

# What tests/rpm needs to build and examine RPM packages.
DEPS_RPM="rpm rpmlint debugedit elfutils checkpolicy semodule-utils setools
          systemd busybox-static bzip2"

# What tests/packages and tests/versions need for other suites of Debian.
DEPS_PACKAGES="debootstrap debian-archive-keyring dpkg-dev"

# Prints those of the packages given as arguments that are not installed.
deps_missing() {
    local package

    for package; do
        case $(dpkg-query -W -f '${db:Status-Status}' "$package" \
             2>/dev/null) in
        installed) ;;
        *) echo "$package" ;;
        esac
    done
}

# Installs the packages given as arguments, unless they all are installed.
#
# A package that brings a service must not start it: the guests and tests use
# switches of their own.  policy-rc.d is Debian's way to say so; one that was
# there before is left alone and put in charge again.
deps_install() {
    local missing policy=/usr/sbin/policy-rc.d ours= status=0

    missing=$(deps_missing "$@")
    if [ -z "$missing" ]; then
        return 0
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "please install, or run as root:" $missing >&2
        return 1
    fi

    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod +x "$policy"
        ours=yes
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update &&
        apt-get -q -y --no-install-recommends install $missing || status=$?
    if [ "$ours" ]; then
        rm -f "$policy"
    fi
    return $status
}
