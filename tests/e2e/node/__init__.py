"""A real Kubernetes node for tests: etcd, API server, controllers, scheduler, containerd, kubelet, proxy and names.

All of it runs in namespaces of its own on this machine: nothing of the machine's network is changed, and no pod
reaches anything outside. Needs root on Linux and a few packages, see packages.py.

packages.py      what of the machine is needed, and installing it on a Debian
keeper.py        one process outside that holds the namespaces, and removes everything when the tests end
first.py         the first process inside: mounts, network, then the programs; it ends with the keeper
layout.py        where things are, and the addresses inside
certificates.py  who may speak to whom
settings.py      configuration of the programs
inside.py        does something with the network of the node
node.py          the node: start, kubectl, helm, images, stop
"""
