/*
 * A driver's ring memory, laid out by the structures and helpers of the kernel's own header.
 *
 * Reads operations, one per line, and prints an answer to those that have one:
 *   L num align         offsets of the parts of a contiguous split ring, and its size
 *   E event new old     vring_need_event
 *   S num, P num        start over with an empty split or packed ring
 *   A table n (addr len write)*n
 *                       add a buffer; table is the address of its indirect table, or 0
 *   U id len            the device uses a buffer, the driver takes it back
 *   D                   areas in hexadecimal, one per line, then the latest indirect table
 * Free descriptors and ids are taken as Linux takes them: the last one freed first.
 */
#include <linux/virtio_ring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX 64

static struct vring ring;
static struct vring_packed_desc *packed;
static struct vring_packed_desc_event events[2];
static void *memory;
static unsigned num, next_free[MAX], free_head, slots[MAX], position, used_at;
static int avail_wrap, used_wrap;
static struct vring_desc table[MAX];
static struct vring_packed_desc packed_table[MAX];
static unsigned table_length;

static void start(char format, unsigned size)
{
	num = size;
	free(memory);
	memory = calloc(1, 1 << 16);
	packed = format == 'P' ? memory : NULL;
	if (!packed)
		vring_init(&ring, num, memory, VRING_USED_ALIGN_SIZE);
	for (unsigned i = 0; i < num; i++)
		next_free[i] = i + 1;
	free_head = position = used_at = table_length = 0;
	avail_wrap = used_wrap = 1;
	memset(events, 0, sizeof(events));
	events[0].off_wrap = 1 << VRING_PACKED_EVENT_F_WRAP_CTR;
	events[0].flags = VRING_PACKED_EVENT_FLAG_DESC;
}

static unsigned add_split(uint64_t at, unsigned n, uint64_t *addr, uint32_t *len, int *write)
{
	unsigned head = free_head, i = head;

	for (unsigned k = 0; k < n; k++) {
		struct vring_desc *desc = at ? &table[k] : &ring.desc[i];
		unsigned next = at ? k + 1 : next_free[i];

		desc->addr = addr[k];
		desc->len = len[k];
		desc->flags = (write[k] ? VRING_DESC_F_WRITE : 0) | (k + 1 < n ? VRING_DESC_F_NEXT : 0);
		desc->next = k + 1 < n ? next : 0;
		if (!at)
			i = next_free[i];
	}
	if (at) {
		ring.desc[i].addr = at;
		ring.desc[i].len = n * sizeof(struct vring_desc);
		ring.desc[i].flags = VRING_DESC_F_INDIRECT;
		ring.desc[i].next = 0;
		i = next_free[i];
	}
	slots[head] = at ? 1 : n;
	free_head = i;
	ring.avail->ring[ring.avail->idx & (num - 1)] = head;
	ring.avail->idx++;
	return head;
}

static void use_split(unsigned id, uint32_t len)
{
	unsigned last = id;
	struct vring_used_elem *elem = &ring.used->ring[ring.used->idx & (num - 1)];

	elem->id = id;
	elem->len = len;
	ring.used->idx++;
	for (unsigned k = 1; k < slots[id]; k++)
		last = next_free[last];
	next_free[last] = free_head;
	free_head = id;
	vring_used_event(&ring) = ring.used->idx;
}

static unsigned add_packed(uint64_t at, unsigned n, uint64_t *addr, uint32_t *len, int *write)
{
	unsigned id = free_head, count = at ? 1 : n;

	for (unsigned k = 0; k < n && at; k++) {
		packed_table[k].addr = addr[k];
		packed_table[k].len = len[k];
		packed_table[k].id = 0;
		packed_table[k].flags = write[k] ? VRING_DESC_F_WRITE : 0;
	}
	for (unsigned k = 0; k < count; k++) {
		struct vring_packed_desc *desc = &packed[position];
		unsigned flags = avail_wrap ? 1 << VRING_PACKED_DESC_F_AVAIL : 1 << VRING_PACKED_DESC_F_USED;

		desc->addr = at ? at : addr[k];
		desc->len = at ? n * sizeof(struct vring_packed_desc) : len[k];
		desc->id = id;
		flags |= at ? VRING_DESC_F_INDIRECT : write[k] ? VRING_DESC_F_WRITE : 0;
		desc->flags = flags | (k + 1 < count ? VRING_DESC_F_NEXT : 0);
		if (++position == num) {
			position = 0;
			avail_wrap ^= 1;
		}
	}
	free_head = next_free[id];
	slots[id] = count;
	return id;
}

static void use_packed(unsigned id, uint32_t len)
{
	struct vring_packed_desc *desc = &packed[used_at];

	desc->addr = 0;
	desc->len = len;
	desc->id = id;
	desc->flags = (used_wrap ? 1 << VRING_PACKED_DESC_F_AVAIL | 1 << VRING_PACKED_DESC_F_USED : 0) |
		      (len ? VRING_DESC_F_WRITE : 0);
	used_at += slots[id];
	if (used_at >= num) {
		used_at -= num;
		used_wrap ^= 1;
	}
	next_free[id] = free_head;
	free_head = id;
	events[0].off_wrap = used_at | used_wrap << VRING_PACKED_EVENT_F_WRAP_CTR;
	events[0].flags = VRING_PACKED_EVENT_FLAG_DESC;
}

static void dump(const void *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		printf("%02x", ((const uint8_t *)data)[i]);
	printf("\n");
}

static void layout(unsigned size, unsigned long align)
{
	struct vring v;
	char *base = (char *)(1ul << 32);

	vring_init(&v, size, base, align);
	printf("%zu %zu %zu %zu %zu %zu %zu %zu\n", (size_t)((char *)v.desc - base),
	       (size_t)((char *)v.avail - base), (size_t)((char *)&v.avail->idx - base),
	       (size_t)((char *)v.avail->ring - base), (size_t)((char *)&vring_used_event(&v) - base),
	       (size_t)((char *)v.used->ring - base), (size_t)((char *)&vring_avail_event(&v) - base),
	       (size_t)vring_size(size, align));
}

int main(void)
{
	char what;
	unsigned a, b, c;

	while (scanf(" %c", &what) == 1) {
		if (what == 'L' && scanf("%u %u", &a, &b) == 2) {
			layout(a, b);
		} else if (what == 'E' && scanf("%u %u %u", &a, &b, &c) == 3) {
			printf("%d\n", vring_need_event(a, b, c));
		} else if ((what == 'S' || what == 'P') && scanf("%u", &a) == 1) {
			start(what, a);
		} else if (what == 'A') {
			unsigned long long at, addr[MAX];
			uint64_t addrs[MAX];
			uint32_t len[MAX];
			int write[MAX];

			if (scanf("%llu %u", &at, &a) != 2)
				return 1;
			for (unsigned k = 0; k < a; k++) {
				if (scanf("%llu %u %d", &addr[k], &len[k], &write[k]) != 3)
					return 1;
				addrs[k] = addr[k];
			}
			if (at)
				table_length = a;
			printf("%u\n", (packed ? add_packed : add_split)(at, a, addrs, len, write));
		} else if (what == 'U' && scanf("%u %u", &a, &b) == 2) {
			(packed ? use_packed : use_split)(a, b);
		} else if (what == 'D' && packed) {
			dump(packed, num * sizeof(*packed));
			dump(&events[0], sizeof(events[0]));
			dump(&events[1], sizeof(events[1]));
			dump(packed_table, table_length * sizeof(*packed_table));
		} else if (what == 'D') {
			dump(ring.desc, num * sizeof(struct vring_desc));
			dump(ring.avail, (char *)(&vring_used_event(&ring) + 1) - (char *)ring.avail);
			dump(ring.used, (char *)(&vring_avail_event(&ring) + 1) - (char *)ring.used);
			dump(table, table_length * sizeof(*table));
		} else {
			return 1;
		}
	}
	return 0;
}
