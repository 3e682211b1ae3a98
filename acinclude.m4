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

dnl VHU_REQUIRE_PROG([VARIABLE], [PROGRAM], [DEBIAN-PACKAGE], [PATH])
dnl
dnl Looks for PROGRAM, in PATH if given; ends with one line that names its package if there is
dnl none.
AC_DEFUN([VHU_REQUIRE_PROG], [
  AC_PATH_PROG([$1], [$2], [no], [$4])
  if test "$[]$1" = no; then
    AC_MSG_ERROR([$2 not found; install the Debian package $3])
  fi
])

dnl VHU_ENABLE_OPTION([OPTION])
dnl
dnl Adds OPTION to WARNING_FLAGS if the compiler knows it.
AC_DEFUN([VHU_ENABLE_OPTION], [
  AS_VAR_PUSHDEF([vhu_ok], [vhu_cv_cc_option_$1])
  AC_CACHE_CHECK([whether $CC accepts $1], [vhu_ok], [
    vhu_save_CFLAGS=$CFLAGS
    dnl A compiler may accept any -Wno-... until it has something to warn of.
    CFLAGS="$CFLAGS -Werror m4_bpatsubst([$1], [-Wno-], [-W])"
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([])],
      [AS_VAR_SET([vhu_ok], [yes])], [AS_VAR_SET([vhu_ok], [no])])
    CFLAGS=$vhu_save_CFLAGS
  ])
  AS_VAR_IF([vhu_ok], [yes], [WARNING_FLAGS="$WARNING_FLAGS $1"])
  AS_VAR_POPDEF([vhu_ok])
])

dnl VHU_ENABLE_WERROR
AC_DEFUN([VHU_ENABLE_WERROR], [
  AC_ARG_ENABLE([Werror],
    [AS_HELP_STRING([--enable-Werror], [make each warning an error])],
    [], [enable_Werror=no])
])

dnl VHU_WITH_BUILD_INFO
dnl
dnl What packagers want "ovs-vswitchd --version" to say.
AC_DEFUN([VHU_WITH_BUILD_INFO], [
  AC_ARG_WITH([build-info],
    [AS_HELP_STRING([--with-build-info=TEXT],
       [what ovs-vswitchd --version says of this build])],
    [], [with_build_info=])
  VHU_BUILD_INFO=$with_build_info
  AC_SUBST([VHU_BUILD_INFO])
])

dnl VHU_WARNING_FLAGS
dnl
dnl The warnings that OVS enables for its own code.
AC_DEFUN([VHU_WARNING_FLAGS], [
  AC_SUBST([WARNING_FLAGS])
  VHU_ENABLE_OPTION([-Wall])
  VHU_ENABLE_OPTION([-Wextra])
  VHU_ENABLE_OPTION([-Wno-sign-compare])
  VHU_ENABLE_OPTION([-Wpointer-arith])
  VHU_ENABLE_OPTION([-Wformat -Wformat-security])
  VHU_ENABLE_OPTION([-Wswitch-enum])
  VHU_ENABLE_OPTION([-Wunused-parameter])
  VHU_ENABLE_OPTION([-Wbad-function-cast])
  VHU_ENABLE_OPTION([-Wcast-align])
  VHU_ENABLE_OPTION([-Wstrict-prototypes])
  VHU_ENABLE_OPTION([-Wold-style-definition])
  VHU_ENABLE_OPTION([-Wmissing-prototypes])
  VHU_ENABLE_OPTION([-Wmissing-field-initializers])
  VHU_ENABLE_OPTION([-Wthread-safety])
  VHU_ENABLE_OPTION([-Wswitch-bool])
  VHU_ENABLE_OPTION([-Wlogical-not-parentheses])
  VHU_ENABLE_OPTION([-Wsizeof-array-argument])
  VHU_ENABLE_OPTION([-Wbool-compare])
  VHU_ENABLE_OPTION([-Wshift-negative-value])
  VHU_ENABLE_OPTION([-Wduplicated-cond])
  VHU_ENABLE_OPTION([-Wshadow])
  VHU_ENABLE_OPTION([-Wmultistatement-macros])
  VHU_ENABLE_OPTION([-Wcast-align=strict])
  VHU_ENABLE_OPTION([-Wno-null-pointer-arithmetic])
  VHU_ENABLE_OPTION([-Warray-bounds-pointer-arithmetic])
  if test "$enable_Werror" = yes; then
    WARNING_FLAGS="$WARNING_FLAGS -Werror"
  fi
])

dnl VHU_ENABLE_SANITIZERS
dnl
dnl For our library and its tests; OVS's library stays as it is.
AC_DEFUN([VHU_ENABLE_SANITIZERS], [
  AC_ARG_ENABLE([sanitizers],
    [AS_HELP_STRING([--enable-sanitizers=LIST],
       [build with -fsanitize=LIST, e.g. address,undefined or thread])],
    [], [enable_sanitizers=no])
  AC_SUBST([SANITIZER_FLAGS])
  AS_CASE([$enable_sanitizers],
    [no], [SANITIZER_FLAGS=],
    [yes], [enable_sanitizers=address,undefined])
  if test "$enable_sanitizers" != no; then
    SANITIZER_FLAGS="-fsanitize=$enable_sanitizers -fno-omit-frame-pointer"
    SANITIZER_FLAGS="$SANITIZER_FLAGS -fno-sanitize-recover=all"
  fi
  AM_CONDITIONAL([SANITIZERS], [test "$enable_sanitizers" != no])
])
