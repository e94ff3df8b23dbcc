"""What the kernel's headers call the constants and structures of the spec tables."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from virtio_model.spec import blk, console, entropy, net, net_control, packed, pci, split
from virtio_model.spec.features import Feature
from virtio_model.spec.fields import Field
from virtio_model.spec.status import DeviceStatus

HEADERS = (
    "virtio_config",
    "virtio_ring",
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "virtio_ids",
    "virtio_console",
    "pci_regs",
)

NEWER_THAN_HEADER = {
    "VIRTIO_F_NOTIFICATION_DATA",
    "VIRTIO_F_NOTIF_CONFIG_DATA",
    "VIRTIO_F_ADMIN_VQ",
    "VIRTIO_F_SUSPEND",
    "VIRTIO_CONFIG_S_SUSPEND",
    "VIRTIO_PCI_ISR_QUEUE",
    "VIRTIO_PCI_CAP_VENDOR_CFG",
    *(
        f"VIRTIO_NET_F_{name}"
        for name in (
            "DEVICE_STATS",
            "HASH_TUNNEL",
            "VQ_NOTF_COAL",
            "GUEST_USO4",
            "GUEST_USO6",
            "HOST_USO",
            "GUEST_HDRLEN",
            "RSS_CONTEXT",
            "GUEST_UDP_TUNNEL_GSO",
            "GUEST_UDP_TUNNEL_GSO_CSUM",
            "HOST_UDP_TUNNEL_GSO",
            "HOST_UDP_TUNNEL_GSO_CSUM",
            "OUT_NET_HEADER",
            "IPSEC",
        )
    ),
    *(
        f"VIRTIO_NET_HDR_{name}"
        for name in (
            "F_UDP_TUNNEL_CSUM",
            "F_SECURITY",
            "F_SECURITY_ERR",
            "F_SA_SOFT_EXPIRY_WARN",
            "GSO_UDP_L4",
            "GSO_UDP_TUNNEL_IPV4",
            "GSO_UDP_TUNNEL_IPV6",
        )
    ),
    *(
        f"VIRTIO_NET_CTRL_{name}"
        for name in (
            "NOTF_COAL_VQ_SET",
            "NOTF_COAL_VQ_GET",
            "HASH_TUNNEL",
            "HASH_TUNNEL_SET",
            "STATS",
            "STATS_QUERY",
            "STATS_GET",
            "RSS_CTX",
            "RSS_CTX_CAP_GET",
            "RSS_CTX_ADD",
            "RSS_CTX_MOD",
            "RSS_CTX_DEL",
        )
    ),
    "VIRTIO_BLK_F_LIFETIME",
    "VIRTIO_BLK_F_ZONED",
    *(
        f"VIRTIO_BLK_T_{name}"
        for name in (
            "GET_LIFETIME",
            "ZONE_APPEND",
            "ZONE_REPORT",
            "ZONE_OPEN",
            "ZONE_CLOSE",
            "ZONE_FINISH",
            "ZONE_RESET",
            "ZONE_RESET_ALL",
        )
    ),
    *(
        f"VIRTIO_BLK_S_ZONE_{name}"
        for name in (
            "INVALID_CMD",
            "UNALIGNED_WP",
            "OPEN_RESOURCE",
            "ACTIVE_RESOURCE",
        )
    ),
}

NEWER_MEMBERS = {
    ("virtio_net_config", "supported_tunnel_types"),
    *(
        ("virtio_blk_config", name)
        for name in (
            "zoned.zone_sectors",
            "zoned.max_open_zones",
            "zoned.max_active_zones",
            "zoned.max_append_sectors",
            "zoned.write_granularity",
            "zoned.model",
        )
    ),
}


def _enum(prefix: str, enum: type[IntEnum], **renamed: str) -> dict[str, int]:
    return {prefix + renamed.get(item.name, item.name): int(item) for item in enum}


def _constants() -> dict[str, int]:
    table: dict[str, int] = {}
    table |= _enum("VIRTIO_F_", Feature)
    for ring_feature in ("INDIRECT_DESC", "EVENT_IDX"):
        table[f"VIRTIO_RING_F_{ring_feature}"] = table.pop(f"VIRTIO_F_{ring_feature}")
    table |= {
        f"VIRTIO_CONFIG_S_{s.name}": int(s)
        for s in DeviceStatus
        if s != DeviceStatus.DEVICE_NEEDS_RESET
    }
    table["VIRTIO_CONFIG_S_NEEDS_RESET"] = int(DeviceStatus.DEVICE_NEEDS_RESET)
    table |= {
        "VRING_DESC_F_NEXT": split.DescFlags.NEXT,
        "VRING_DESC_F_WRITE": split.DescFlags.WRITE,
        "VRING_DESC_F_INDIRECT": split.DescFlags.INDIRECT,
        "VRING_PACKED_DESC_F_AVAIL": packed.AVAIL_BIT,
        "VRING_PACKED_DESC_F_USED": packed.USED_BIT,
        "VRING_USED_F_NO_NOTIFY": split.USED_NO_NOTIFY,
        "VRING_AVAIL_F_NO_INTERRUPT": split.AVAIL_NO_INTERRUPT,
        "VRING_PACKED_EVENT_F_WRAP_CTR": packed.EVENT_WRAP_BIT,
        "VRING_AVAIL_ALIGN_SIZE": split.AVAIL_ALIGN,
        "VRING_USED_ALIGN_SIZE": split.USED_ALIGN,
        "VRING_DESC_ALIGN_SIZE": split.DESC_ALIGN,
        "VIRTIO_MSI_NO_VECTOR": pci.NO_VECTOR,
        "VIRTIO_PCI_ISR_CONFIG": pci.Isr.CONFIG,
        "VIRTIO_PCI_ISR_QUEUE": pci.Isr.QUEUE,
        "PCI_CAP_ID_VNDR": pci.PCI_CAP_ID_VENDOR,
        "PCI_CAP_ID_MSIX": pci.PCI_CAP_ID_MSIX,
        "PCI_VENDOR_ID": pci.PCI_VENDOR_ID_OFFSET,
        "PCI_DEVICE_ID": pci.PCI_DEVICE_ID_OFFSET,
        "PCI_COMMAND": pci.PCI_COMMAND_OFFSET,
        "PCI_STATUS": pci.PCI_STATUS_OFFSET,
        "PCI_REVISION_ID": pci.PCI_REVISION_OFFSET,
        "PCI_SUBSYSTEM_ID": pci.PCI_SUBSYSTEM_ID_OFFSET,
        "PCI_CAPABILITY_LIST": pci.PCI_CAP_POINTER_OFFSET,
        "PCI_STATUS_INTERRUPT": pci.PCI_STATUS_INTERRUPT,
        "PCI_STATUS_CAP_LIST": pci.PCI_STATUS_CAP_LIST,
        "PCI_MSIX_FLAGS": pci.MSIX_CONTROL_OFFSET,
        "PCI_MSIX_FLAGS_QSIZE": pci.MSIX_CONTROL_SIZE_MASK,
        "PCI_MSIX_FLAGS_MASKALL": pci.MSIX_CONTROL_MASK_ALL,
        "PCI_MSIX_FLAGS_ENABLE": pci.MSIX_CONTROL_ENABLE,
        "PCI_MSIX_TABLE": pci.MSIX_TABLE_OFFSET,
        "PCI_MSIX_PBA": pci.MSIX_PBA_OFFSET,
        "PCI_MSIX_TABLE_BIR": pci.MSIX_BIR_MASK,
        "PCI_MSIX_ENTRY_SIZE": pci.MSIX_ENTRY_SIZE,
        "PCI_MSIX_ENTRY_CTRL_MASKBIT": pci.MSIX_VECTOR_MASKED,
    }
    for name, field in zip(
        ("LOWER_ADDR", "UPPER_ADDR", "DATA", "VECTOR_CTRL"), pci.MSIX_ENTRY, strict=True
    ):
        table[f"PCI_MSIX_ENTRY_{name}"] = field.offset
    table |= _enum("VRING_PACKED_EVENT_FLAG_", packed.EventFlags)
    for kind in pci.CfgType:
        table[f"VIRTIO_PCI_CAP_{kind.name}_CFG"] = kind
    for name, field in zip(("VNDR", "NEXT", "LEN", "CFG_TYPE", "BAR"), pci.CAP, strict=False):
        table[f"VIRTIO_PCI_CAP_{name}"] = field.offset
    table |= _enum("VIRTIO_TRANS_ID_", pci.TransitionalDeviceId, P9="9P")
    table |= {
        "VIRTIO_ID_NET": net.DEVICE_ID,
        "VIRTIO_ID_BLOCK": blk.DEVICE_ID,
        "VIRTIO_ID_CONSOLE": console.DEVICE_ID,
        "VIRTIO_ID_RNG": entropy.DEVICE_ID,
    }
    table |= _common_offsets() | _net_constants() | _blk_constants()
    table |= _enum("VIRTIO_CONSOLE_F_", console.ConsoleFeature)
    table |= _enum(
        "VIRTIO_CONSOLE_", console.ControlEvent, DEVICE_ADD="PORT_ADD", DEVICE_REMOVE="PORT_REMOVE"
    )
    return table


def _common_offsets() -> dict[str, int]:
    names = {
        "device_feature_select": "DFSELECT",
        "device_feature": "DF",
        "driver_feature_select": "GFSELECT",
        "driver_feature": "GF",
        "config_msix_vector": "MSIX",
        "num_queues": "NUMQ",
        "device_status": "STATUS",
        "config_generation": "CFGGENERATION",
        "queue_select": "Q_SELECT",
        "queue_size": "Q_SIZE",
        "queue_msix_vector": "Q_MSIX",
        "queue_enable": "Q_ENABLE",
        "queue_notify_off": "Q_NOFF",
        "queue_desc": "Q_DESCLO",
        "queue_driver": "Q_AVAILLO",
        "queue_device": "Q_USEDLO",
        "queue_notif_config_data": "Q_NDATA",
        "queue_reset": "Q_RESET",
    }
    return {
        f"VIRTIO_PCI_COMMON_{names[field.name]}": field.offset
        for field in pci.COMMON_CFG
        if field.name in names
    }


def _net_constants() -> dict[str, int]:
    table = _enum("VIRTIO_NET_F_", net.NetFeature)
    table |= {f"VIRTIO_NET_S_{s.name}": int(s) for s in net.NetStatus}
    table |= {f"VIRTIO_NET_HDR_F_{f.name}": int(f) for f in net.HeaderFlags}
    table |= _enum("VIRTIO_NET_HDR_GSO_", net.GsoType)
    table |= {
        "VIRTIO_NET_HDR_GSO_ECN": net.GSO_ECN,
        "VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4": net.GSO_UDP_TUNNEL_IPV4,
        "VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6": net.GSO_UDP_TUNNEL_IPV6,
        "VIRTIO_NET_OK": net_control.ACK_OK,
        "VIRTIO_NET_ERR": net_control.ACK_ERR,
        "VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN": net.VQ_PAIRS_MIN,
        "VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX": net.VQ_PAIRS_MAX,
    }
    table |= _enum("VIRTIO_NET_CTRL_", net_control.ControlClass)
    for kind, commands in (
        ("RX", net_control.RxCommand),
        ("MAC", net_control.MacCommand),
        ("VLAN", net_control.VlanCommand),
        ("ANNOUNCE", net_control.AnnounceCommand),
        ("MQ", net_control.MqCommand),
        ("GUEST_OFFLOADS", net_control.GuestOffloadsCommand),
        ("NOTF_COAL", net_control.NotfCoalCommand),
        ("HASH_TUNNEL", net_control.HashTunnelCommand),
        ("STATS", net_control.StatsCommand),
        ("RSS_CTX", net_control.RssCtxCommand),
    ):
        table |= _enum(f"VIRTIO_NET_CTRL_{kind}_", commands)
    table |= {f"VIRTIO_NET_RSS_HASH_TYPE_{_v(t.name)}": int(t) for t in net_control.HashType}
    table |= {f"VIRTIO_NET_HASH_REPORT_{_v(r.name)}": int(r) for r in net_control.HashReport}
    return table


def _v(name: str | None) -> str:
    assert name is not None
    return name.replace("V4", "v4").replace("V6", "v6")


def _blk_constants() -> dict[str, int]:
    table = _enum("VIRTIO_BLK_F_", blk.BlkFeature) | _enum("VIRTIO_BLK_T_", blk.RequestType)
    table |= _enum("VIRTIO_BLK_S_", blk.RequestStatus)
    table["VIRTIO_BLK_ID_BYTES"] = blk.ID_BYTES
    table["VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP"] = blk.SEGMENT_UNMAP
    return table


CONSTANTS = _constants()

Struct = tuple[str, Iterable[Field], dict[str, str], int | None]
"""C name, fields, members with another name in C ("" for none), size if it must agree."""

STRUCTS: tuple[Struct, ...] = (
    ("vring_desc", split.DESCRIPTOR, {}, split.DESC_SIZE),
    ("vring_avail", split.AVAIL_HEADER, {}, split.RING_OFFSET),
    ("vring_used", split.USED_HEADER, {}, split.RING_OFFSET),
    ("vring_used_elem", split.USED_ELEM, {}, split.USED_ELEM_SIZE),
    ("vring_packed_desc", packed.DESCRIPTOR, {}, packed.DESC_SIZE),
    ("vring_packed_desc_event", packed.EVENT_SUPPRESSION, {}, packed.EVENT_SIZE),
    ("virtio_pci_cap", pci.CAP, {}, pci.CAP_SIZE),
    (
        "virtio_pci_notify_cap",
        pci.NOTIFY_CAP,
        {f.name: f"cap.{f.name}" for f in pci.CAP},
        pci.NOTIFY_CAP_SIZE,
    ),
    ("virtio_pci_cap64", pci.CAP64, {f.name: f"cap.{f.name}" for f in pci.CAP}, pci.CAP64_SIZE),
    (
        "virtio_pci_cfg_cap",
        pci.PCI_CFG_CAP,
        {f.name: f"cap.{f.name}" for f in pci.CAP},
        pci.PCI_CFG_CAP_SIZE,
    ),
    (
        "virtio_pci_common_cfg",
        pci.COMMON_CFG,
        {
            "driver_feature_select": "guest_feature_select",
            "driver_feature": "guest_feature",
            "config_msix_vector": "msix_config",
            # Split in C; their offsets are compared as constants.
            "queue_desc": "",
            "queue_driver": "",
            "queue_device": "",
            # Not in the old structure, which ends at 0x38.
            "queue_notif_config_data": "",
            "queue_reset": "",
            "admin_queue_index": "",
            "admin_queue_num": "",
        },
        pci.COMMON_CFG_SIZE_MIN,
    ),
    ("virtio_net_config", net.CONFIG, {}, None),
    ("virtio_net_hdr_v1", net.HEADER, {}, net.HEADER_SIZE),
    ("virtio_net_hdr", net.HEADER, {"num_buffers": ""}, net.HEADER_SIZE_LEGACY),
    (
        "virtio_net_hdr_v1_hash",
        (*net.HEADER, *net.HEADER_OPTIONAL),
        {
            **{f.name: f"hdr.{f.name}" for f in net.HEADER},
            "outer_th_offset": "",
            "inner_nh_offset": "",
            "outer_nh_offset": "",
        },
        net.HEADER_SIZE_HASH,
    ),
    ("virtio_net_ctrl_hdr", net_control.CONTROL_HEADER, {"command": "cmd"}, 2),
    (
        "virtio_blk_config",
        blk.CONFIG,
        {
            "cylinders": "geometry.cylinders",
            "heads": "geometry.heads",
            "sectors": "geometry.sectors",
            "writeback": "wce",
            "unused0": "unused",
            "unused2": "",
            "zone_sectors": "zoned.zone_sectors",
            "max_open_zones": "zoned.max_open_zones",
            "max_active_zones": "zoned.max_active_zones",
            "max_append_sectors": "zoned.max_append_sectors",
            "write_granularity": "zoned.write_granularity",
            "model": "zoned.model",
        },
        None,
    ),
    ("virtio_blk_outhdr", blk.REQUEST_HEADER, {"reserved": "ioprio"}, blk.REQUEST_HEADER_SIZE),
    ("virtio_blk_discard_write_zeroes", blk.SEGMENT, {}, blk.SEGMENT_SIZE),
    ("virtio_console_config", console.CONFIG, {}, console.CONFIG_SIZE),
    ("virtio_console_control", console.CONTROL, {}, console.CONTROL_SIZE),
)
