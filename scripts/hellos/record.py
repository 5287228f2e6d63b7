#!/usr/bin/env python3
"""Runs a TLS client against a socket that answers nothing, and writes what it sends to a file:
record.py --file FILE COMMAND..., where @PORT@ in the command stands for the socket's port on 127.0.0.1."""

import argparse
import os
import signal
import socket
import subprocess
import sys

SECONDS = 60


def read_exactly(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError(f"the client closed the connection after {data!r}")
        data += more
    return data


def read_record(connection):
    header = read_exactly(connection, 5)
    return header + read_exactly(connection, int.from_bytes(header[3:], "big"))


def record(connection, arguments):
    connection.settimeout(SECONDS)
    for request in arguments.request:
        path, answer = request.split("=")
        with open(path, "wb") as file:
            file.write(read_exactly(connection, 8))
        connection.sendall(answer.encode())
    with open(arguments.file, "wb") as file:
        for _ in range(arguments.records):
            file.write(read_record(connection))


def stop(client):
    """Ends the client and what it has started, for some would try again for long. Returns what they printed."""
    os.killpg(client.pid, signal.SIGKILL)
    return client.communicate(timeout=SECONDS)[0].decode()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", required=True, help="the file to write")
    parser.add_argument("--records", type=int, default=1, help="how many records to wait for")
    parser.add_argument(
        "--request",
        metavar="FILE=ANSWER",
        action="append",
        default=[],
        help="write eight bytes to FILE, and send ANSWER, before the first record",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SECONDS)
        port = str(server.getsockname()[1])
        command = [word.replace("@PORT@", port) for word in arguments.command]
        client = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with server.accept()[0] as connection:
                record(connection, arguments)
        except (OSError, EOFError) as error:
            sys.exit(f"{command}: {error}\n{stop(client)}")
        stop(client)


main()
