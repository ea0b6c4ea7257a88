// SPDX-License-Identifier: Apache-2.0
/*
 * The monitor of a network that machines share: one process a network that runs.
 *
 *     a machine's monitor finds nobody on the network's control socket and starts one
 *     -> "network.start": lock taken, helper started, ports of the host bound
 *     -> cards come by "network.attach", each on a connection that is its lifeline
 *     -> it ends soon after the last one has gone
 *
 * It keeps the network's end of each card's cable, the forwards and the leases, and carries no
 * frame itself: the helper anima-network does, in a sandbox. When that dies, another one gets all
 * of it.
 */
#pragma once

/* Serve descriptor PROCESS_LINK_FD and the control socket until the network ends. Returns the
 * process's status. */
int network_main(void);
