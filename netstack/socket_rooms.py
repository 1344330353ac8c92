"""The modules of sockets of tasks that have functions of the kernel, and those that have system calls."""

from types import ModuleType

from netstack import (
    af_packet,
    af_unix,
    inet,
    inet6,
    inet_stream,
    msg,
    raw_calls,
    sk_alloc,
    sock_options,
    sock_wait,
    socket_api,
    socket_file,
    socket_msg,
    unix_data,
    unix_path,
)

__all__ = ["SOCKET_ROOMS", "SOCKET_SYSCALL_ROOMS"]

SOCKET_SYSCALL_ROOMS: tuple[ModuleType, ...] = (socket_api, socket_msg, sock_options)
SOCKET_ROOMS: tuple[ModuleType, ...] = (
    *SOCKET_SYSCALL_ROOMS, af_packet, af_unix, inet, inet6, inet_stream, msg, raw_calls, sk_alloc, sock_wait,
    socket_file, unix_data, unix_path,
)  # fmt: skip
