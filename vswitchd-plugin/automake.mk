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

# The provider.
noinst_LIBRARIES += vswitchd-plugin/libvhuplugin.a
vswitchd_plugin_libvhuplugin_a_SOURCES =

# One line a module.  (Uncomment yours when its file is there.)
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/netdev-vhostuser.c vswitchd-plugin/netdev-vhostuser.h
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/netdev-vhostuser-ctl.c
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/netdev-vhostuser-drv.c
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/netdev-vhostuser-count.h
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/netdev-vhostuser-io.c
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/netdev-vhostuser-positions.c
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/netdev-vhostuser-qos.c
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/netdev-vhostuser-role.c
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/netdev-vhostuser-stats.c
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/vhu-ctl.c vswitchd-plugin/vhu-ctl.h
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/vhu-meter.c vswitchd-plugin/vhu-meter.h
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/vhu-options.c vswitchd-plugin/vhu-options.h
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/vhu-packet.c vswitchd-plugin/vhu-packet.h
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/vhu-pool.c vswitchd-plugin/vhu-pool.h
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/vhu-startup.c vswitchd-plugin/vhu-startup.h
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/vhu-unixctl.c vswitchd-plugin/vhu-unixctl.h
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/vhu-unixctl-fe.c
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/ovs-compat.h
vswitchd_plugin_libvhuplugin_a_SOURCES += vswitchd-plugin/plugin.c vswitchd-plugin/plugin.h

# The two ways into the switch.
noinst_LIBRARIES += \
	vswitchd-plugin/libdaemon.a \
	vswitchd-plugin/libpreload.a
vswitchd_plugin_libdaemon_a_SOURCES = vswitchd-plugin/plugin-daemon.c
vswitchd_plugin_libpreload_a_SOURCES = vswitchd-plugin/plugin-preload.c

PLUGIN_LIBS = vswitchd-plugin/libvhuplugin.a lib/libvhu.a
PRELOAD_OBJECTS = $(vswitchd_plugin_libpreload_a_OBJECTS) $(PLUGIN_LIBS)
DAEMON_OBJECTS = $(vswitchd_plugin_libdaemon_a_OBJECTS) $(PLUGIN_LIBS)
VHU_OBJECTS += \
	$(vswitchd_plugin_libdaemon_a_OBJECTS) \
	$(vswitchd_plugin_libpreload_a_OBJECTS) \
	$(vswitchd_plugin_libvhuplugin_a_OBJECTS)

pluginexecdir = $(pkglibdir)
pluginexec_SCRIPTS = \
	vswitchd-plugin/ovs-vswitchd \
	vswitchd-plugin/vhostuser.so

# All of that again, for a switch with DPDK.  lib/ knows no packets, and
# serves both.
if WITH_DPDK
noinst_LIBRARIES += \
	vswitchd-plugin/libvhuplugin-dpdk.a \
	vswitchd-plugin/libdaemon-dpdk.a \
	vswitchd-plugin/libpreload-dpdk.a
vswitchd_plugin_libvhuplugin_dpdk_a_SOURCES = \
	$(vswitchd_plugin_libvhuplugin_a_SOURCES)
vswitchd_plugin_libvhuplugin_dpdk_a_CPPFLAGS = $(DPDK_CPPFLAGS)
vswitchd_plugin_libvhuplugin_dpdk_a_CFLAGS = $(DPDK_CFLAGS)
vswitchd_plugin_libdaemon_dpdk_a_SOURCES = vswitchd-plugin/plugin-daemon.c
vswitchd_plugin_libdaemon_dpdk_a_CPPFLAGS = $(DPDK_CPPFLAGS)
vswitchd_plugin_libdaemon_dpdk_a_CFLAGS = $(DPDK_CFLAGS)
vswitchd_plugin_libpreload_dpdk_a_SOURCES = vswitchd-plugin/plugin-preload.c
vswitchd_plugin_libpreload_dpdk_a_CPPFLAGS = $(DPDK_CPPFLAGS)
vswitchd_plugin_libpreload_dpdk_a_CFLAGS = $(DPDK_CFLAGS)

PLUGIN_DPDK_LIBS = vswitchd-plugin/libvhuplugin-dpdk.a lib/libvhu.a
PRELOAD_DPDK_OBJECTS = $(vswitchd_plugin_libpreload_dpdk_a_OBJECTS) \
	$(PLUGIN_DPDK_LIBS)
DAEMON_DPDK_OBJECTS = $(vswitchd_plugin_libdaemon_dpdk_a_OBJECTS) \
	$(PLUGIN_DPDK_LIBS)
VHU_DPDK_OBJECTS += \
	$(vswitchd_plugin_libdaemon_dpdk_a_OBJECTS) \
	$(vswitchd_plugin_libpreload_dpdk_a_OBJECTS) \
	$(vswitchd_plugin_libvhuplugin_dpdk_a_OBJECTS)
pluginexec_SCRIPTS += \
	vswitchd-plugin/ovs-vswitchd-dpdk \
	vswitchd-plugin/vhostuser-dpdk.so
endif
CLEANFILES += $(pluginexec_SCRIPTS) $(pluginexec_SCRIPTS:%=%.log) \
	vswitchd-plugin/vhostuser.o vswitchd-plugin/vhostuser-dpdk.o
EXTRA_DIST += vswitchd-plugin/vhostuser.sym

# The plugin, for LD_PRELOAD.  What it takes from OVS and DPDK becomes weak, so
# that the dynamic linker loads it even into a program that does not have it
# all; see plugin-preload.c.
vswitchd-plugin/vhostuser.o: $(PRELOAD_OBJECTS)
vswitchd-plugin/vhostuser-dpdk.o: $(PRELOAD_DPDK_OBJECTS)
WEAKEN = $(OVS_LIBOPENVSWITCH)
vswitchd-plugin/vhostuser-dpdk.o: WEAKEN = $(OVS_DPDK_LIBOPENVSWITCH)
vswitchd-plugin/vhostuser.o vswitchd-plugin/vhostuser-dpdk.o:
	$(AM_V_GEN)$(CC) -r -nostdlib -o $@.tmp $^ && \
	$(NM) -g --defined-only $(WEAKEN) 2>/dev/null | \
		$(SED) -n 's/^[^ ]* [A-Z] //p' | sort -u > $@.ovs && \
	{ echo __real_coverage_counter_register; \
	  echo __real_vlog_insert_module; \
	  $(NM) -u $@.tmp | $(SED) -n 's/.* \(per_lcore_\|_*rte_\)/\1/p'; \
	  $(NM) -u $@.tmp | $(SED) 's/.* //' | sort -u | \
		comm -12 - $@.ovs; } > $@.weak && \
	$(OBJCOPY) --weaken-symbols=$@.weak $@.tmp $@ && \
	rm -f $@.tmp $@.ovs $@.weak
vswitchd-plugin/vhostuser.so vswitchd-plugin/vhostuser-dpdk.so: \
		vswitchd-plugin/%.so: vswitchd-plugin/%.o \
		$(top_srcdir)/vswitchd-plugin/vhostuser.sym
	$(AM_V_CCLD)$(CC) $(CFLAGS) $(SANITIZER_FLAGS) $(LDFLAGS) -shared -o $@ \
		-Wl,-z,lazy $(PLUGIN_DEFS) \
		-Wl,--version-script,$(top_srcdir)/vswitchd-plugin/vhostuser.sym \
		-Wl,--wrap=coverage_counter_register \
		-Wl,--wrap=vlog_insert_module \
		$< -lpthread -ldl -lm
if SANITIZERS
PLUGIN_DEFS =
else
PLUGIN_DEFS = -Wl,-z,defs
endif

# The daemon: OVS's own objects and ours.
RELINK_FLAGS = $(SANITIZER_FLAGS) \
	-Wl,--wrap=dpdk_init \
	-Wl,--wrap=if_notifier_destroy \
	-Wl,--wrap=ovs_print_version \
	-Wl,--wrap=ovsrec_interface_set_error
vswitchd-plugin/ovs-vswitchd: $(DAEMON_OBJECTS) $(OVS_STAMP)
vswitchd-plugin/ovs-vswitchd-dpdk: $(DAEMON_DPDK_OBJECTS) $(OVS_DPDK_STAMP)
RELINK_IN = $(OVS_BUILDDIR)
vswitchd-plugin/ovs-vswitchd-dpdk: RELINK_IN = $(OVS_DPDK_BUILDDIR)
vswitchd-plugin/ovs-vswitchd vswitchd-plugin/ovs-vswitchd-dpdk: \
		$(top_srcdir)/build-aux/relink.mk
	$(AM_V_CCLD)$(MAKE) -s --no-print-directory -C $(RELINK_IN) \
		-f $(abs_top_srcdir)/build-aux/relink.mk \
		VHU_OUTPUT=$(abs_builddir)/$@ \
		VHU_OBJECTS="$(addprefix $(abs_builddir)/,$(filter %.a %.o,$^))" \
		VHU_LDFLAGS="$(RELINK_FLAGS)" $(abs_builddir)/$@ > $@.log
