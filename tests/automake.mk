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

# All unit and protocol tests in one program, as OVS's ovstest.
check_PROGRAMS += tests/vhutest
tests_vhutest_SOURCES = tests/vhutest.c tests/vhutest.h

# One line a test.  (Uncomment yours when its file is there.)
#tests_vhutest_SOURCES += tests/test-vhu-backend.c
#tests_vhutest_SOURCES += tests/test-vhu-conn.c
#tests_vhutest_SOURCES += tests/test-vhu-mem.c
tests_vhutest_SOURCES += tests/test-vhu-msg.c
#tests_vhutest_SOURCES += tests/test-virtq-split.c
#tests_vhutest_SOURCES += tests/virtq-mock.c tests/virtq-mock.h

tests_vhutest_LDADD = $(PLUGIN_LIBS) $(OVS_LIBOPENVSWITCH) $(OVS_LIBS)
VHU_OBJECTS += $(tests_vhutest_OBJECTS)

# Autotest files, in the order of tests/testsuite.at.
TESTSUITE_AT = \
	tests/testsuite.at \
	tests/vhu-macros.at \
	tests/msg.at \
	tests/plugin.at
TESTSUITE = $(srcdir)/tests/testsuite
EXTRA_DIST += $(TESTSUITE_AT) $(TESTSUITE) tests/atlocal.in \
	tests/check-includes tests/run

$(srcdir)/tests/package.m4: $(top_srcdir)/configure.ac
	$(AM_V_GEN){ \
	  echo 'm4_define([AT_PACKAGE_NAME],      [$(PACKAGE_NAME)])' && \
	  echo 'm4_define([AT_PACKAGE_TARNAME],   [$(PACKAGE_TARNAME)])' && \
	  echo 'm4_define([AT_PACKAGE_VERSION],   [$(PACKAGE_VERSION)])' && \
	  echo 'm4_define([AT_PACKAGE_STRING],    [$(PACKAGE_STRING)])' && \
	  echo 'm4_define([AT_PACKAGE_BUGREPORT], [$(PACKAGE_BUGREPORT)])' && \
	  echo 'm4_define([AT_PACKAGE_URL],       [$(PACKAGE_URL)])'; \
	} > $@.tmp$$$$ && mv $@.tmp$$$$ $@
EXTRA_DIST += tests/package.m4

$(TESTSUITE): $(TESTSUITE_AT:%=$(top_srcdir)/%) $(srcdir)/tests/package.m4
	$(AM_V_GEN)$(AUTOM4TE) --language=autotest \
		-I $(srcdir) -I $(srcdir)/tests $(srcdir)/tests/testsuite.at -o $@.tmp$$$$ \
		&& mv $@.tmp$$$$ $@

tests/atconfig: $(top_builddir)/config.status
	cd $(top_builddir) && ./config.status tests/atconfig
DISTCLEANFILES = tests/atconfig

# Options for the testsuite, for instance TESTSUITEFLAGS='-j2 -k virtq -v'.
TESTSUITEFLAGS =
AUTOTEST_PATH = tests:vswitchd-plugin:$(OVS_BUILDDIR)/utilities:$(OVS_BUILDDIR)/ovsdb
check-testsuite: all $(check_PROGRAMS) $(TESTSUITE) tests/atconfig tests/atlocal
	set -e; cd tests; \
	$(SHELL) '$(abs_top_srcdir)/tests/testsuite' \
		AUTOTEST_PATH='$(AUTOTEST_PATH)' $(TESTSUITEFLAGS)
clean-testsuite:
	-test ! -f $(TESTSUITE) || \
		(cd tests && $(SHELL) '$(abs_top_srcdir)/tests/testsuite' --clean)
CHECK_LOCAL += check-testsuite
CLEAN_LOCAL += clean-testsuite
.PHONY: check-testsuite
