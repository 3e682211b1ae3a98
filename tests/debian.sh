# Where Debian's packages come from: the mirror that this machine uses, for any
# suite of Debian, without any change to this machine.  Sourced by
# tests/versions and tests/packages; not a program.
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

# Prints the URL of the Debian mirror that apt has been told to use.
debian_mirror() {
    local url

    url=$(apt-get indextargets --format '$(REPO_URI) $(LABEL)' \
              'Created-By: Packages' 2>/dev/null |
          sed -n 's, Debian$,,p' | sed 1q)
    echo "${url:-http://deb.debian.org/debian}"
}

# debian_apt DIR SUITE COMMAND...: runs "apt-get COMMAND" with only SUITE of
# Debian as its source and all of its state in DIR.  What it downloads is
# verified with Debian's keys.
debian_apt() {
    local dir=$1 suite=$2

    shift 2
    mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial"
    : > "$dir/state/status"
    cat > "$dir/debian.sources" <<END
Types: deb
URIs: $(debian_mirror)
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
    apt-get -q -o "Dir::State=$dir/state" \
        -o "Dir::State::status=$dir/state/status" \
        -o "Dir::Cache=$dir/cache" \
        -o "Dir::Etc::sourcelist=$dir/debian.sources" \
        -o "Dir::Etc::sourceparts=/dev/null" \
        -o "Dir::Etc::preferences=/dev/null" \
        -o "Dir::Etc::preferencesparts=/dev/null" \
        -o "APT::Sandbox::User=root" -o "Acquire::Languages=none" \
        -o "APT::Update::Error-Mode=any" \
        -o "Acquire::AllowInsecureRepositories=false" "$@"
}

# debian_source DIR SUITE [new]: unpacks the package openvswitch-source of
# SUITE to DIR/src, with its version in DIR/version, unless that is there; with
# "new", whenever the archive has another version.
debian_source() {
    local dir=$1 suite=$2 tarball version

    if [ -e "$dir/version" ] && [ ! "$3" ]; then
        return 0
    fi
    rm -rf "$dir/deb" "$dir/unpacked"
    mkdir -p "$dir/deb"
    debian_apt "$dir/apt" "$suite" update &&
        (cd "$dir/deb" &&
         debian_apt "$dir/apt" "$suite" download openvswitch-source) ||
        return 1
    version=$(dpkg-deb -f "$dir"/deb/*.deb Version)
    if [ "$(cat "$dir/version" 2>/dev/null)" = "$version" ]; then
        return 0
    fi
    rm -rf "$dir/src" "$dir/version"
    dpkg-deb -x "$dir"/deb/*.deb "$dir/unpacked" || return 1
    # In bookworm it is a tarball, later the tree itself.
    tarball=$dir/unpacked/usr/src/openvswitch/openvswitch.tar.gz
    if [ -e "$tarball" ]; then
        mkdir "$dir/src" &&
            tar -xf "$tarball" -C "$dir/src" --strip-components=1
    else
        mv "$dir/unpacked/usr/src/openvswitch" "$dir/src"
    fi && rm -rf "$dir/unpacked" && echo "$version" > "$dir/version"
}

# debian_root DIR SUITE [PACKAGES]: makes DIR a minimal system of SUITE with
# PACKAGES, unless it is one.  Needs root, and debootstrap.
debian_root() {
    local dir=$1 suite=$2 packages=$3 minimal=${1%/*}/minimal-root

    if [ -e "$dir.packages" ] &&
       [ "$(cat "$dir.packages")" = "$packages" ]; then
        return 0
    fi
    if [ ! -e "$minimal.done" ]; then
        rm -rf "$minimal"
        debootstrap --variant=minbase "$suite" "$minimal" "$(debian_mirror)" &&
            touch "$minimal.done" || return 1
    fi
    rm -rf "$dir" "$dir.packages"
    cp -a "$minimal" "$dir" &&
        cp /etc/resolv.conf /etc/hosts "$dir/etc/" || return 1
    # How this machine gets at the archive: proxies and the like.
    apt-config dump --format '%F "%v";%n' | grep '^Acquire::.*"..*"' \
        > "$dir/etc/apt/apt.conf.d/90machine"
    # Services do not start; who wants one to is written down.
    printf '#! /bin/sh\necho "$@" >> /services\nexit 101\n' \
        > "$dir/usr/sbin/policy-rc.d"
    chmod +x "$dir/usr/sbin/policy-rc.d"
    if [ "$packages" ]; then
        debian_enter "$dir" net apt-get -q update &&
            debian_enter "$dir" net apt-get -q -y --no-install-recommends \
                install $packages || return 1
    fi
    echo "$packages" > "$dir.packages"
}

# debian_enter DIR net|alone COMMAND...: runs COMMAND in the system in DIR,
# with processes and mounts of its own and, if "alone", without the network.
# All that it starts ends with it.
debian_enter() {
    local dir=$1 net=

    if [ "$2" = alone ]; then
        net=--net
    fi
    shift 2
    unshare --mount --pid --fork --kill-child $net sh -c '
        dir=$1
        shift
        mount --make-rprivate /
        # Some of what runs there makes mount namespaces, too.
        mount --bind "$dir" "$dir" &&
        mount -t proc proc "$dir/proc" &&
        mount -t sysfs sysfs "$dir/sys" &&
        mount --rbind /dev "$dir/dev" &&
        mount -t tmpfs tmpfs "$dir/run" || exit 1
        ip link set lo up 2>/dev/null
        path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        chroot "$dir" /usr/bin/env -i "PATH=$path" \
            HOME=/root LC_ALL=C.UTF-8 \
            DEBIAN_FRONTEND=noninteractive "http_proxy=$http_proxy" \
            "https_proxy=$https_proxy" "$@"' sh "$dir" "$@"
}
