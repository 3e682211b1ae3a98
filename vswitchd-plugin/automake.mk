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

# The provider, without the entry point, so that the tests can use it.
noinst_LIBRARIES += vswitchd-plugin/libvhuplugin.a
vswitchd_plugin_libvhuplugin_a_SOURCES =

# One line a module.  (Uncomment yours when its file is there.)
#vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/netdev-vhostuser.c vswitchd-plugin/netdev-vhostuser.h
#vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/netdev-vhostuser-io.c
#vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/vhu-ctl.c vswitchd-plugin/vhu-ctl.h
#vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/vhu-notify.c vswitchd-plugin/vhu-notify.h
#vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/vhu-packet.c vswitchd-plugin/vhu-packet.h
#vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/vhu-unixctl.c
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/ovs-compat.h

PLUGIN_LIBS = vswitchd-plugin/libvhuplugin.a lib/libvhu.a
VHU_OBJECTS += $(vswitchd_plugin_libvhuplugin_a_OBJECTS)

# The plugin: a shared object for LD_PRELOAD.
pluginexecdir = $(pkglibdir)
pluginexec_PROGRAMS = vswitchd-plugin/vhostuser.so
vswitchd_plugin_vhostuser_so_SOURCES = vswitchd-plugin/plugin.c
vswitchd_plugin_vhostuser_so_LDADD = $(PLUGIN_LIBS) -ldl
vswitchd_plugin_vhostuser_so_LDFLAGS = -shared -Wl,-z,lazy \
	-Wl,--version-script,$(top_srcdir)/vswitchd-plugin/vhostuser.sym
EXTRA_vswitchd_plugin_vhostuser_so_DEPENDENCIES = \
	vswitchd-plugin/vhostuser.sym
VHU_OBJECTS += $(vswitchd_plugin_vhostuser_so_OBJECTS)
EXTRA_DIST += vswitchd-plugin/vhostuser.sym

# The daemon: OVS's own objects and ours.
DAEMON_OBJECTS = \
	$(vswitchd_plugin_vhostuser_so_OBJECTS) \
	$(PLUGIN_LIBS)
pluginexec_SCRIPTS = vswitchd-plugin/ovs-vswitchd
vswitchd-plugin/ovs-vswitchd: $(DAEMON_OBJECTS) $(OVS_STAMP) \
		$(top_srcdir)/build-aux/relink.mk
	$(AM_V_GEN)$(MAKE) -s --no-print-directory -C $(OVS_BUILDDIR) \
		-f $(abs_top_srcdir)/build-aux/relink.mk \
		VHU_OUTPUT=$(abs_builddir)/$@ \
		VHU_OBJECTS="$(DAEMON_OBJECTS:%=$(abs_builddir)/%)" \
		VHU_LDFLAGS="$(RELINK_FLAGS)" $(abs_builddir)/$@
RELINK_FLAGS = $(SANITIZER_FLAGS) -Wl,--wrap=ovs_print_version
CLEANFILES += vswitchd-plugin/ovs-vswitchd
