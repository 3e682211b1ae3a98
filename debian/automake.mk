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
	debian/changelog \
	debian/clean \
	debian/control \
	debian/copyright \
	debian/not-installed \
	debian/openvswitch-switch-vhostuser-dpdk.README.Debian \
	debian/openvswitch-switch-vhostuser-dpdk.install \
	debian/openvswitch-switch-vhostuser-dpdk.postinst \
	debian/openvswitch-switch-vhostuser-dpdk.prerm \
	debian/openvswitch-switch-vhostuser-dpdk.triggers \
	debian/openvswitch-switch-vhostuser.README.Debian \
	debian/openvswitch-switch-vhostuser.install \
	debian/openvswitch-switch-vhostuser.postinst \
	debian/openvswitch-switch-vhostuser.prerm \
	debian/openvswitch-switch-vhostuser.triggers \
	debian/ovs-vhost.install \
	debian/ovs-vhostuser-doc.docs \
	debian/rules \
	debian/source/format \
	debian/automake.mk
