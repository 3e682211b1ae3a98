# -*- autoconf -*-

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

dnl VHU_OVS_SOURCE
dnl
dnl Sets OVS_SRCDIR to a source tree of OVS that has a configure script.  A
dnl tarball, or a tree without that script, is first copied to ovs/src.
AC_DEFUN([VHU_OVS_SOURCE], [
  AC_ARG_WITH([ovs],
    [AS_HELP_STRING([--with-ovs=DIR|TARBALL],
       [source of Open vSwitch @<:@what Debian's package openvswitch-source
        installs in /usr/src/openvswitch@:>@])],
    [], [with_ovs=yes])
  AC_MSG_CHECKING([for the source of Open vSwitch])
  if test "$with_ovs" = yes; then
    for with_ovs in /usr/src/openvswitch/openvswitch.tar.gz \
                    /usr/src/openvswitch; do
      test -f "$with_ovs" || test -f "$with_ovs/configure.ac" && break
    done
  fi
  AC_MSG_RESULT([$with_ovs])
  if test -f "$with_ovs"; then
    with_ovs=`cd "\`dirname "$with_ovs"\`" && pwd`/`basename "$with_ovs"`
    if test "`cat ovs/src/.origin 2>/dev/null`" != \
            "$with_ovs `stat -c %Y "$with_ovs"`"; then
      AC_MSG_NOTICE([unpacking $with_ovs into ovs/src])
      rm -rf ovs/src && mkdir -p ovs/src &&
      tar -xf "$with_ovs" -C ovs/src --strip-components=1 &&
      echo "$with_ovs `stat -c %Y "$with_ovs"`" > ovs/src/.origin ||
        AC_MSG_ERROR([cannot unpack $with_ovs])
    fi
    OVS_SRCDIR=`pwd`/ovs/src
  elif test -f "$with_ovs/configure.ac"; then
    OVS_SRCDIR=`cd "$with_ovs" && pwd`
    if test ! -x "$OVS_SRCDIR/configure"; then
      if test "`cat ovs/src/.origin 2>/dev/null`" != "$OVS_SRCDIR"; then
        AC_MSG_NOTICE([copying $OVS_SRCDIR to ovs/src])
        rm -rf ovs/src && mkdir -p ovs && cp -R "$OVS_SRCDIR" ovs/src &&
        chmod -R u+w ovs/src && echo "$OVS_SRCDIR" > ovs/src/.origin ||
          AC_MSG_ERROR([cannot copy $OVS_SRCDIR])
      fi
      OVS_SRCDIR=`pwd`/ovs/src
    fi
  else
    AC_MSG_ERROR([no source of Open vSwitch; install the Debian package openvswitch-source or use --with-ovs=DIR])
  fi
  if test ! -x "$OVS_SRCDIR/configure"; then
    if (cd "$OVS_SRCDIR" && ./boot.sh) > ovs/boot.log 2>&1; then :; else
      AC_MSG_ERROR([$OVS_SRCDIR/boot.sh failed; see ovs/boot.log (Debian packages autoconf, automake, libtool)])
    fi
  fi
  AC_SUBST([OVS_SRCDIR])
])

dnl VHU_OVS_CONFIGURE([NAME], [ARGUMENTS])
dnl
dnl Configures a build tree of OVS in ovs/NAME, unless that has been done with
dnl the same arguments.  'make' builds it.  Libtool, which runs for each file,
dnl takes half a second in bash, less in dash.
AC_DEFUN([VHU_OVS_CONFIGURE], [
  vhu_args="CONFIG_SHELL=/bin/sh $OVS_SRCDIR/configure --disable-shared $OVS_COMMON_FLAGS $2 PYTHON3='$PYTHON3' CC='$CC' CFLAGS='$CFLAGS'"
  if test "`cat ovs/$1/.configured 2>/dev/null`" != "$vhu_args"; then
    AC_MSG_NOTICE([configuring Open vSwitch in ovs/$1])
    mkdir -p ovs/$1 && rm -f ovs/$1.stamp ovs/$1/.configured
    if (cd ovs/$1 && eval "$vhu_args") > ovs/configure.log 2>&1; then
      echo "$vhu_args" > ovs/$1/.configured
    else
      AC_MSG_ERROR([Open vSwitch cannot be configured: `$GREP 'error:' ovs/configure.log | tail -n 1` (all in ovs/configure.log)])
    fi
  fi
])

dnl VHU_OVS_BUILT([VARIABLE], [DIR])
dnl
dnl Sets VARIABLE to the absolute name of DIR, a complete build tree of OVS.
AC_DEFUN([VHU_OVS_BUILT], [
  $1=`cd "$2" 2>/dev/null && pwd`
  if test ! -f "$$1/lib/.libs/libopenvswitch.a" ||
     test ! -f "$$1/vswitchd/bridge.o"; then
    AC_MSG_ERROR([$2 is not a complete static build of Open vSwitch; run make there])
  fi
])

dnl VHU_OVS_BUILD
dnl
dnl Sets OVS_BUILDDIR to a configured build tree of OVS, ovs/build unless
dnl --with-ovs-build says otherwise.
AC_DEFUN([VHU_OVS_BUILD], [
  AC_ARG_WITH([ovs-build],
    [AS_HELP_STRING([--with-ovs-build=DIR],
       [complete build tree of that source, to be used as it is])],
    [], [with_ovs_build=no])
  AC_ARG_VAR([OVS_CONFIGURE_FLAGS],
    [more arguments for the configure script of Open vSwitch])

  dnl Where Debian's packages have their files, so that our daemon runs in
  dnl place of theirs.
  OVS_COMMON_FLAGS="--prefix=/usr --localstatedir=/var --sysconfdir=/etc"
  OVS_COMMON_FLAGS="$OVS_COMMON_FLAGS $OVS_CONFIGURE_FLAGS"
  AC_SUBST([OVS_COMMON_FLAGS])

  if test "$with_ovs_build" != no; then
    VHU_OVS_BUILT([OVS_BUILDDIR], [$with_ovs_build])
    OVS_STAMP=
  else
    OVS_BUILDDIR=`pwd`/ovs/build
    OVS_STAMP=ovs/build.stamp
    VHU_OVS_CONFIGURE([build], [])
  fi
  AC_SUBST([OVS_BUILDDIR])
  AC_SUBST([OVS_STAMP])
])

dnl VHU_OVS_DPDK_BUILD
dnl
dnl Sets with_dpdk to yes or no and, if yes, OVS_DPDK_BUILDDIR to a second
dnl build tree of OVS, with DPDK: ovs/dpdk unless --with-ovs-dpdk-build says
dnl otherwise.
AC_DEFUN([VHU_OVS_DPDK_BUILD], [
  AC_ARG_WITH([dpdk],
    [AS_HELP_STRING([--with-dpdk=yes|no|auto],
       [also build vhostuser-dpdk.so and ovs-vswitchd-dpdk, for a switch with
        DPDK @<:@auto: if pkg-config finds a libdpdk that is new enough and
        Open vSwitch is not built already@:>@])],
    [], [with_dpdk=auto])
  AC_ARG_WITH([ovs-dpdk-build],
    [AS_HELP_STRING([--with-ovs-dpdk-build=DIR],
       [the same as --with-ovs-build, with DPDK; implies --with-dpdk])],
    [], [with_ovs_dpdk_build=no])
  AC_PATH_PROG([PKG_CONFIG], [pkg-config], [false])

  dnl Open vSwitch itself does not look at DPDK's version.
  if $GREP -q rte_vhost_driver_set_max_queue_num \
       "$OVS_SRCDIR/lib/netdev-dpdk.c"; then
    vhu_dpdk_min=23.11
  else
    vhu_dpdk_min=22.11
  fi

  AC_MSG_CHECKING([whether to build for a switch with DPDK])
  AS_CASE([$with_dpdk],
    [auto], [
      if test "$with_ovs_dpdk_build" != no; then
        with_dpdk=yes
      elif test -n "$OVS_STAMP" &&
           "$PKG_CONFIG" --exists "libdpdk >= $vhu_dpdk_min"; then
        with_dpdk=yes
      else
        with_dpdk=no
      fi],
    [yes|no], [],
    [AC_MSG_ERROR([--with-dpdk=$with_dpdk: expected yes, no or auto])])
  AC_MSG_RESULT([$with_dpdk])

  OVS_DPDK_BUILDDIR= OVS_DPDK_STAMP=
  if test $with_dpdk = yes; then
    if "$PKG_CONFIG" --exists libdpdk; then :; else
      AC_MSG_ERROR([no libdpdk found by pkg-config; install the Debian packages pkg-config and libdpdk-dev])
    fi
    if test "$with_ovs_dpdk_build" != no; then
      VHU_OVS_BUILT([OVS_DPDK_BUILDDIR], [$with_ovs_dpdk_build])
      if VHU_OVS_HAS([DPDK_NETDEV], [$OVS_DPDK_BUILDDIR]); then :; else
        AC_MSG_ERROR([$with_ovs_dpdk_build is a build of Open vSwitch without DPDK])
      fi
    else
      OVS_DPDK_BUILDDIR=`pwd`/ovs/dpdk
      OVS_DPDK_STAMP=ovs/dpdk.stamp
      VHU_OVS_CONFIGURE([dpdk], [--with-dpdk=shared])
    fi
    VHU_OVS_FLAGS([OVS_DPDK], [$OVS_DPDK_BUILDDIR])
  fi
  AC_SUBST([with_dpdk])
  AC_SUBST([OVS_DPDK_BUILDDIR])
  AC_SUBST([OVS_DPDK_STAMP])
  AC_SUBST([OVS_DPDK_CFLAGS])
  AC_SUBST([OVS_DPDK_LIBS])
  AM_CONDITIONAL([WITH_DPDK], [test $with_dpdk = yes])
])

dnl VHU_OVS_VAR([SHELL-VARIABLE], [MAKE-VARIABLE], [DIR])
dnl
dnl Sets SHELL-VARIABLE to the value of MAKE-VARIABLE in the build tree of OVS
dnl in DIR.
AC_DEFUN([VHU_OVS_VAR], [
  $1=`${MAKE-make} -s --no-print-directory -C "$3" \
        -f "$vhu_relink_mk" vhu-print-$2 2>/dev/null`
])

dnl VHU_OVS_HAS([MACRO], [DIR])
dnl
dnl Whether config.h in the build tree DIR defines MACRO.  To be used in a
dnl condition.
AC_DEFUN([VHU_OVS_HAS], [$GREP -q 'define $1 1' "$2/config.h"])

dnl VHU_OVS_FLAGS([PREFIX], [DIR])
dnl
dnl Sets PREFIX_CFLAGS and PREFIX_LIBS to what the build tree of OVS in DIR
dnl compiles and links with.
AC_DEFUN([VHU_OVS_FLAGS], [
  VHU_OVS_VAR([$1_CFLAGS], [OVS_CFLAGS], [$2])
  VHU_OVS_VAR([$1_LIBS], [LIBS], [$2])
  VHU_OVS_VAR([vhu_libs], [SSL_LIBS], [$2])
  $1_LIBS="$vhu_libs $$1_LIBS"
  VHU_OVS_VAR([vhu_libs], [CAPNG_LDADD], [$2])
  $1_LIBS="$vhu_libs $$1_LIBS -lpthread"
])

dnl VHU_OVS
dnl
dnl All about Open vSwitch: its source, its build trees, and what these were
dnl configured with.
AC_DEFUN([VHU_OVS], [
  vhu_relink_mk=`cd "$srcdir" && pwd`/build-aux/relink.mk
  VHU_OVS_SOURCE
  VHU_OVS_BUILD
  VHU_OVS_DPDK_BUILD

  AC_MSG_CHECKING([for the version of Open vSwitch])
  VHU_OVS_VAR([OVS_VERSION], [VERSION], [$OVS_BUILDDIR])
  AC_MSG_RESULT([$OVS_VERSION])
  AC_SUBST([OVS_VERSION])

  dnl The same flags as OVS, for instance because its inline hash functions
  dnl depend on the instruction set.
  VHU_OVS_VAR([vhu_ovs_cflags], [CFLAGS], [$OVS_BUILDDIR])
  if test "$vhu_user_cflags" = unset; then
    CFLAGS=$vhu_ovs_cflags
  fi
  VHU_OVS_VAR([OVS_LDFLAGS], [OVS_LDFLAGS], [$OVS_BUILDDIR])
  VHU_OVS_FLAGS([OVS], [$OVS_BUILDDIR])
  AC_SUBST([OVS_CFLAGS])
  AC_SUBST([OVS_LDFLAGS])
  AC_SUBST([OVS_LIBS])
  AC_MSG_CHECKING([for the compiler flags of Open vSwitch])
  AC_MSG_RESULT([$vhu_ovs_cflags $OVS_CFLAGS])

  VHU_OVS_COMPAT

  AC_MSG_CHECKING([for the optional parts of Open vSwitch])
  vhu_parts= vhu_absent=
  VHU_OVS_PART([HAVE_OPENSSL], [SSL], [libssl-dev])
  VHU_OVS_PART([HAVE_LIBCAPNG], [libcap-ng], [libcap-ng-dev])
  VHU_OVS_PART([HAVE_UNBOUND], [unbound], [libunbound-dev])
  VHU_OVS_PART([HAVE_AF_XDP], [AF_XDP], [libxdp-dev libbpf-dev libnuma-dev])
  VHU_OVS_PART([DPDK_NETDEV], [DPDK], [])
  vhu_parts=`echo ${vhu_parts:-none}${vhu_absent:+"; without"$vhu_absent}`
  AC_MSG_RESULT([$vhu_parts])
])

dnl VHU_OVS_GREP([FILE], [REGEX], [MACRO])
dnl
dnl Defines MACRO for our sources if FILE of Open vSwitch matches REGEX.
AC_DEFUN([VHU_OVS_GREP], [
  AC_MSG_CHECKING([whether $1 of Open vSwitch has $2])
  if $GREP -qE '$2' "$OVS_SRCDIR/$1"; then
    OVS_COMPAT_DEFS="$OVS_COMPAT_DEFS -D$3"
    AC_MSG_RESULT([yes])
  else
    AC_MSG_RESULT([no])
  fi
])

dnl VHU_OVS_COMPAT
dnl
dnl Sets OVS_COMPAT_DEFS to what vswitchd-plugin/ovs-compat.h has to know of
dnl this version.
AC_DEFUN([VHU_OVS_COMPAT], [
  OVS_COMPAT_DEFS=
  AC_SUBST([OVS_COMPAT_DEFS])
  VHU_OVS_GREP([lib/dp-packet.h], [dp_packet_set_tso_segsz],
    [HAVE_OVS_TSO_SEGSZ])
  VHU_OVS_GREP([lib/ipf.c], [frag->pkt = pkt;],
    [HAVE_OVS_IPF_KEEPS])
  VHU_OVS_GREP([include/openvswitch/json.h], [json_array_at],
    [HAVE_OVS_JSON_ARRAY_AT])
  VHU_OVS_GREP([lib/unixctl.h], [struct json \*\*result],
    [HAVE_OVS_UNIXCTL_JSON])
])

dnl VHU_OVS_PART([MACRO], [NAME], [DEBIAN-PACKAGES])
AC_DEFUN([VHU_OVS_PART], [
  if VHU_OVS_HAS([$1], [$OVS_BUILDDIR]) || $GREP -q '^$1 = yes' "$OVS_BUILDDIR/Makefile"; then
    vhu_parts="$vhu_parts $2"
  else
    vhu_absent="$vhu_absent $2[]m4_ifnblank([$3], [ ($3)])"
  fi
])
