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

# Runs in a build tree of OVS, on top of OVS's own Makefile, so that the
# daemon is linked exactly as OVS links it, and our objects with it:
#
#   make -C OVS-BUILDDIR -f .../relink.mk VHU_OUTPUT=... VHU_OBJECTS=...

include Makefile

# Without the wrapper script that libtool makes for a shared libopenvswitch.
$(VHU_OUTPUT): $(vswitchd_ovs_vswitchd_OBJECTS) \
		$(vswitchd_ovs_vswitchd_DEPENDENCIES) $(VHU_OBJECTS)
	$(AM_V_CCLD)$(vswitchd_ovs_vswitchd_LINK) -no-install $(VHU_LDFLAGS) \
		$(vswitchd_ovs_vswitchd_OBJECTS) $(VHU_OBJECTS) \
		$(vswitchd_ovs_vswitchd_LDADD) $(LIBS)

# The part of OVS that a private switch needs, and no manual pages.
VHU_OVS_PROGRAMS ?= \
	ovsdb/ovsdb-client \
	ovsdb/ovsdb-server \
	ovsdb/ovsdb-tool \
	utilities/ovs-appctl \
	utilities/ovs-dpctl \
	utilities/ovs-ofctl \
	utilities/ovs-vsctl \
	vswitchd/ovs-vswitchd
vhu-ovs: $(BUILT_SOURCES)
	$(MAKE) $(VHU_OVS_PROGRAMS)

# All that OVS's own test suite needs.
vhu-ovs-tests: all
	$(MAKE) $(check_PROGRAMS) $(check_DATA) tests/atconfig tests/atlocal

vhu-print-%:
	@echo '$($*)'

.PHONY: vhu-ovs vhu-ovs-tests
