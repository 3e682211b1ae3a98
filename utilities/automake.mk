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
	utilities/bugtool/vhostuser.xml \
	utilities/deps.sh \
	utilities/guest-image \
	utilities/ovs-vhost.8.rst \
	utilities/ovs-vhost-completion.bash \
	utilities/quickstart

# One command; each sub-command has a file of its own.
bin_PROGRAMS += utilities/ovs-vhost
utilities_ovs_vhost_SOURCES = utilities/ovs-vhost.c utilities/ovs-vhost.h
utilities_ovs_vhost_SOURCES += utilities/vhost-bounce.c
utilities_ovs_vhost_SOURCES += utilities/vhost-hist.c utilities/vhost-hist.h
utilities_ovs_vhost_SOURCES += utilities/vhost-loop.c utilities/vhost-loop.h
utilities_ovs_vhost_SOURCES += utilities/vhost-perf.c utilities/vhost-perf.h
utilities_ovs_vhost_SOURCES += utilities/vhost-perf-outage.c
utilities_ovs_vhost_SOURCES += utilities/vhost-perf-report.c
utilities_ovs_vhost_SOURCES += utilities/vhost-port.c utilities/vhost-port.h
utilities_ovs_vhost_SOURCES += utilities/vhost-probe.c
utilities_ovs_vhost_SOURCES += utilities/vhost-receive.c
utilities_ovs_vhost_SOURCES += utilities/vhost-send.c
utilities_ovs_vhost_SOURCES += utilities/vhost-stream.c utilities/vhost-stream.h
utilities_ovs_vhost_SOURCES += utilities/vhost-pcap.c utilities/vhost-pcap.h
utilities_ovs_vhost_SOURCES += utilities/vhost-seq.c utilities/vhost-seq.h
utilities_ovs_vhost_SOURCES += utilities/vhost-top.c
utilities_ovs_vhost_SOURCES += utilities/vhost-trace.c
utilities_ovs_vhost_SOURCES += utilities/vhost-util.c utilities/vhost-util.h
utilities_ovs_vhost_LDADD = lib/libvhu.a $(OVS_LIBOPENVSWITCH) $(OVS_LIBS)
VHU_OBJECTS += $(utilities_ovs_vhost_OBJECTS)

# Its manual page, or, without rst2man, what that would be made of; and
# completion for bash, where Open vSwitch has its own.
if HAVE_RST2MAN
man_MANS = utilities/ovs-vhost.8
CLEANFILES += utilities/ovs-vhost.8
utilities/ovs-vhost.8: $(top_srcdir)/utilities/ovs-vhost.8.rst
	$(AM_V_GEN)$(MKDIR_P) utilities && \
	$(RST2MAN) --strict $(top_srcdir)/utilities/ovs-vhost.8.rst $@.tmp && \
	mv $@.tmp $@
else
doc_DATA = utilities/ovs-vhost.8.rst
endif
bashcompletiondir = $(sysconfdir)/bash_completion.d
bashcompletion_DATA = utilities/ovs-vhost-completion.bash

# What ovs-bugtool collects, where it looks for that.
bugtooldir = $(datadir)/openvswitch/bugtool-plugins/network-status
bugtool_DATA = utilities/bugtool/vhostuser.xml
