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

# Our protocol code and virtqueue engine, on OVS's base library only.
noinst_LIBRARIES += lib/libvhu.a
lib_libvhu_a_SOURCES =

# One line a module.  (Uncomment yours when its file is there.)
lib_libvhu_a_SOURCES += lib/vhu-backend.c lib/vhu-backend.h
lib_libvhu_a_SOURCES += lib/vhu-backend-mem.c lib/vhu-backend-impl.h
lib_libvhu_a_SOURCES += lib/vhu-conn.c lib/vhu-conn.h
lib_libvhu_a_SOURCES += lib/vhu-sock.c lib/vhu-sock.h
lib_libvhu_a_SOURCES += lib/vhu-stream.c lib/vhu-stream.h
lib_libvhu_a_SOURCES += lib/vhu-watch.c lib/vhu-watch.h
lib_libvhu_a_SOURCES += lib/vhu-dev.c lib/vhu-dev.h
lib_libvhu_a_SOURCES += lib/vhu-dev-positions.c
lib_libvhu_a_SOURCES += lib/vhu-dev-run.c lib/vhu-dev-impl.h
lib_libvhu_a_SOURCES += lib/vhu-log.c lib/vhu-log.h
lib_libvhu_a_SOURCES += lib/vhu-map.c lib/vhu-map.h
lib_libvhu_a_SOURCES += lib/vhu-mem.c lib/vhu-mem.h
lib_libvhu_a_SOURCES += lib/vhu-frontend.c lib/vhu-frontend.h
lib_libvhu_a_SOURCES += lib/vhu-frontend-channel.c lib/vhu-frontend-impl.h
lib_libvhu_a_SOURCES += lib/vhu-frontend-log.c
lib_libvhu_a_SOURCES += lib/vhu-frontend-ops.c
lib_libvhu_a_SOURCES += lib/vhu-frontend-run.c
lib_libvhu_a_SOURCES += lib/vhu-frontend-steps.c
lib_libvhu_a_SOURCES += lib/vhu-frontend-vring.c
lib_libvhu_a_SOURCES += lib/vhu-msg.c lib/vhu-msg.h
lib_libvhu_a_SOURCES += lib/vhu-msg-fe.c
lib_libvhu_a_SOURCES += lib/vhu-names.c lib/vhu-names.h
lib_libvhu_a_SOURCES += lib/vhu-notify.c lib/vhu-notify.h
lib_libvhu_a_SOURCES += lib/vhu-positions.c lib/vhu-positions.h
lib_libvhu_a_SOURCES += lib/vhu-refcount.h
lib_libvhu_a_SOURCES += lib/vhu-sigbus.c lib/vhu-sigbus.h
lib_libvhu_a_SOURCES += lib/vhu-trace.c lib/vhu-trace.h
lib_libvhu_a_SOURCES += lib/vhu-shm.c lib/vhu-shm.h
lib_libvhu_a_SOURCES += lib/virtq.c lib/virtq-impl.h lib/virtq.h
lib_libvhu_a_SOURCES += lib/virtq-drv.c lib/virtq-drv-impl.h lib/virtq-drv.h
lib_libvhu_a_SOURCES += lib/virtq-drv-life.c
lib_libvhu_a_SOURCES += lib/virtq-drv-packed.c lib/virtq-drv-packed.h
lib_libvhu_a_SOURCES += lib/virtq-drv-split.c lib/virtq-drv-split.h
lib_libvhu_a_SOURCES += lib/virtq-log.c
lib_libvhu_a_SOURCES += lib/virtq-packed.c lib/virtq-packed.h
lib_libvhu_a_SOURCES += lib/virtq-packed-start.c
lib_libvhu_a_SOURCES += lib/virtq-pos.h
lib_libvhu_a_SOURCES += lib/virtq-split.c lib/virtq-split.h
lib_libvhu_a_SOURCES += lib/vhost-user-spec.h
lib_libvhu_a_SOURCES += lib/virtio-barrier.h
lib_libvhu_a_SOURCES += lib/virtio-endian.h
lib_libvhu_a_SOURCES += lib/virtio-spec.h

VHU_OBJECTS += $(lib_libvhu_a_OBJECTS)
