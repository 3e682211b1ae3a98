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
