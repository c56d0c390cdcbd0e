#include "trainer/edge/check_host.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
    RING_WANTED = 512,       /* descriptors that a port asks for */
    SOCKET_BUFFER = 4 << 20, /* bytes that io/uring asks for */
    CAP_NET_ADMIN_BIT = 12,  /* linux/capability.h: socket buffers beyond the limit */
};

/* ---- the port ---- */

static void check_node(struct host *h, long node)
{
    const struct sl_check *o = h->out;
    char line[CHECK_LINE], where[128], cure[SL_CHECK_TEXT];
    uint32_t near[SL_CHECK_CPUS];
    if (node < 0 || !check_line(h, line, "/sys/devices/system/node/node%ld/cpulist", node))
        return;
    uint32_t n = sl_check_cpu_list(line, near, SL_CHECK_CPUS), far = 0;
    const uint32_t *mine = o->n_data ? o->data : o->cpus;
    uint32_t n_mine = o->n_data ? o->n_data : o->n_cpus;
    for (uint32_t i = 0; i < n_mine; i++)
        far += !check_has(near, n, mine[i]);
    if (far) {
        snprintf(cure, sizeof cure, "taskset -c %.200s sluice-edge ...", line);
        check_find(h, SL_CHECK_WARN, "numa", cure,
            "the port is on NUMA node %ld, %u of %u CPUs that poll it are not", node, far, n_mine);
    } else {
        check_find(h, SL_CHECK_OK, "numa", "", "the port and its CPUs are on node %ld", node);
    }
    unsigned long mib = 0;
    snprintf(where, sizeof where, "/sys/devices/system/node/node%ld/hugepages", node);
    if (h->c->x->edge.data.huge_pages && check_pages(h, where, "free_hugepages", &mib) == 0) {
        snprintf(cure, sizeof cure, "sudo scripts/nic hugepages %u --node %ld",
            h->c->x->edge.data.memory_mib / 2, node);
        check_find(h, SL_CHECK_WARN, "huge_pages", cure,
            "no free huge pages on the port's node %ld: packets cross the sockets", node);
    }
}

static void check_pcie(struct host *h, const char *device)
{
    char now[CHECK_LINE], most[CHECK_LINE], width[CHECK_LINE], widest[CHECK_LINE];
    if (!check_line(h, now, "/sys/bus/pci/devices/%s/current_link_speed", device) ||
        !check_line(h, most, "/sys/bus/pci/devices/%s/max_link_speed", device) ||
        !check_line(h, width, "/sys/bus/pci/devices/%s/current_link_width", device) ||
        !check_line(h, widest, "/sys/bus/pci/devices/%s/max_link_width", device))
        return;
    if (strtod(now, NULL) <= 0)
        return; /* "Unknown": a card inside the chipset, or an emulated one */
    if (strtod(now, NULL) < strtod(most, NULL) || strtoul(width, NULL, 10) < strtoul(widest, NULL, 10))
        check_find(h, SL_CHECK_WARN, "pcie", "move the card to a slot that has all lanes and its generation",
            "the card's PCIe link is %.20s x%.4s of %.20s x%.4s", now, width, most, widest);
}

static void check_pci_port(struct host *h)
{
    char device[CHECK_WORD], path[PATH_MAX], driver[CHECK_WORD] = "no driver", group[CHECK_WORD],
                                             line[CHECK_LINE];
    char cure[SL_CHECK_TEXT];
    snprintf(device, sizeof device, "%.*s", (int)strcspn(h->backend, ","), h->backend);
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/driver", device);
    bool bound = check_link(h, path, driver);
    if (!check_line(h, line, "/sys/bus/pci/devices/%s/class", device)) {
        check_find(h, SL_CHECK_BAD, "port", "scripts/nic show", "there is no device %s", device);
        return;
    }
    snprintf(cure, sizeof cure, "sudo scripts/nic bind %s", device);
    if (bound &&
        (!strcmp(driver, "vfio-pci") || !strcmp(driver, "mlx5_core") || !strcmp(driver, "mlx4_core")))
        check_find(h, SL_CHECK_OK, "port", "", "%s is with %s", device, driver);
    else
        check_find(h, SL_CHECK_BAD, "port", cure, "%s is with %s, not with vfio-pci", device, driver);
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/iommu_group", device);
    if (check_link(h, path, group))
        check_find(h, SL_CHECK_OK, "iommu", "", "%s is in group %s", device, group);
    else
        check_find(h, SL_CHECK_BAD, "iommu",
            "turn VT-d or AMD-Vi on in the firmware and boot with: intel_iommu=on iommu=pt (AMD: iommu=pt)",
            "no IOMMU keeps %s to its own memory", device);
    if (check_line(h, line, "/sys/bus/pci/devices/%s/numa_node", device))
        check_node(h, strtol(line, NULL, 10));
    check_pcie(h, device);
}

/* A port over the kernel's interface: "af_xdp:eth1". */
/* io_uring's UDP: what a socket may hold while the lcore is away. */
static void check_socket(struct host *h)
{
    char line[CHECK_LINE], cure[SL_CHECK_TEXT];
    if (!check_line(h, line, "/proc/sys/net/core/rmem_max"))
        return;
    unsigned long max = strtoul(line, NULL, 10);
    snprintf(cure, sizeof cure, "sudo sysctl -w net.core.rmem_max=%d net.core.wmem_max=%d", SOCKET_BUFFER,
        SOCKET_BUFFER);
    if (max < SOCKET_BUFFER && !check_capability(h, CAP_NET_ADMIN_BIT))
        check_find(h, SL_CHECK_WARN, "sockets", cure,
            "a socket may hold %lu KiB; %d are asked for: bursts overrun it", max / 1024,
            SOCKET_BUFFER / 1024);
    else
        check_find(h, SL_CHECK_OK, "sockets", "", "a socket may hold %d KiB", SOCKET_BUFFER / 1024);
}

static void check_kernel_port(struct host *h)
{
    char name[CHECK_WORD], line[CHECK_LINE], cure[SL_CHECK_TEXT];
    struct sl_check_interface i = {0};
    if (strncmp(h->backend, "af_xdp:", 7) != 0 && strncmp(h->backend, "af_packet:", 10) != 0)
        return;
    snprintf(name, sizeof name, "%.60s", strchr(h->backend, ':') + 1);
    if (!check_line(h, line, "/sys/class/net/%s/operstate", name)) {
        check_find(h, SL_CHECK_BAD, "port", "ip link", "there is no interface %s", name);
        return;
    }
    if (!strcmp(line, "down")) {
        snprintf(cure, sizeof cure, "sudo ip link set %s up", name);
        check_find(h, SL_CHECK_BAD, "port", cure, "%s is down", name);
    } else {
        check_find(h, SL_CHECK_OK, "port", "", "%s is %.20s", name, line);
    }
    if (check_line(h, line, "/sys/class/net/%s/device/numa_node", name))
        check_node(h, strtol(line, NULL, 10));
    if (h->c->interface)
        h->c->interface(name, &i);
    if (!i.known)
        return;
    if (i.gro || i.lro) {
        snprintf(cure, sizeof cure, "sudo ethtool -K %s gro off lro off", name);
        check_find(h, SL_CHECK_WARN, "offloads", cure,
            "%s merges received packets (%s) into frames larger than the port's buffers", name,
            i.lro ? "LRO" : "GRO");
    }
    uint32_t want_rx = i.rx_ring_max < RING_WANTED ? i.rx_ring_max : RING_WANTED;
    uint32_t want_tx = i.tx_ring_max < RING_WANTED ? i.tx_ring_max : RING_WANTED;
    if (i.rx_ring < want_rx || i.tx_ring < want_tx) {
        snprintf(cure, sizeof cure, "sudo ethtool -G %s rx %u tx %u", name, want_rx, want_tx);
        check_find(h, SL_CHECK_WARN, "rings", cure,
            "%s has rings of %u and %u descriptors: a burst overruns them", name, i.rx_ring, i.tx_ring);
    }
}

void check_port(struct host *h)
{
    if (h->pci)
        check_pci_port(h);
    else if (!strcmp(h->backend, SL_BACKEND_URING))
        check_socket(h);
    else
        check_kernel_port(h);
}
