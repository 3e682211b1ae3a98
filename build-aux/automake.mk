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

EXTRA_DIST += \
	build-aux/check-style \
	build-aux/relink.mk

# Open vSwitch, built once in ovs/build unless configure was given a build
# tree.  Its warnings are not ours to read.
if OVS_PRIVATE_BUILD
ovs/build.stamp:
	@echo "  MAKE     Open vSwitch $(OVS_VERSION) in $(OVS_BUILDDIR)," \
		"a few minutes (log: ovs/make.log)"
	$(AM_V_at)$(MAKE) -C $(OVS_BUILDDIR) -f $(abs_top_srcdir)/build-aux/relink.mk \
		vhu-ovs > ovs/make.log 2>&1 || { \
		grep -E 'error|Error' ovs/make.log | head -n 5 >&2; exit 1; }
	$(AM_V_at)touch $@
endif

# The same source with a shared libopenvswitch, to test the plugin in.
ovs-shared: ovs/shared.stamp
ovs/shared.stamp:
	@echo "  MAKE     Open vSwitch $(OVS_VERSION), shared, in ovs/shared," \
		"a few minutes (log: ovs/shared.log)"
	$(AM_V_at)$(MKDIR_P) ovs/shared && { cd ovs/shared && \
		$(OVS_SRCDIR)/configure --enable-shared --disable-static \
			$(OVS_COMMON_FLAGS) PYTHON3='$(PYTHON3)' \
			CC='$(CC)' CFLAGS='$(CFLAGS)' && \
		$(MAKE) -f $(abs_top_srcdir)/build-aux/relink.mk vhu-ovs; \
		} > ovs/shared.log 2>&1 || { \
		grep -E 'error|Error' ovs/shared.log | head -n 5 >&2; exit 1; }
	$(AM_V_at)touch $@
.PHONY: ovs-shared

# What a private build of Open vSwitch leaves.  "make clean" keeps it: it takes
# minutes, and nothing of ours changes it.
distclean-local:
	-chmod -R u+w ovs 2>/dev/null
	-rm -rf ovs
