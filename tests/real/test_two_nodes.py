"""Two machines with web processes on one PostgreSQL behind nginx, a third with worker and bank."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateways.payments.sandbox.control import SandboxControl
from tests import outside, pg
from tests.faults.test_kill import Customer, Machine, check_books, pay
from tests.real import nginx
from tests.real.load import FORM, Client, under_load
from tests.test_serve import free_ports

PAYERS = 12
PAY_WITHIN_SECONDS = 8


@dataclass(slots=True)
class Village:
    """The machines of a provider that has grown. `desk` has worker and bank and serves nobody."""

    desk: Machine
    nodes: list[Machine]
    proxy: nginx.Proxy
    acknowledged: list[str] = field(default_factory=list)

    def customer(self) -> Customer:
        return Customer(self.proxy.origin, self.proxy.trust())


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    outside.need("nginx")
    outside.need("postgresql")
    server = pg.server()
    url = server.create("village")
    folder = tmp_path_factory.mktemp("village")
    port = free_ports()
    more = {
        "LASTMILE_PUBLIC_URL": f"https://{nginx.NAME}:{port}",
        "LASTMILE_PROXY_COUNT": "1",
        "LASTMILE_PROCESSES": "1",
    }
    (folder / "desk").mkdir()
    with ExitStack() as stack:
        stack.callback(server.drop, "village")

        def start(name: str, beside: Machine | None) -> Machine:
            machine = Machine(folder / name, url, beside, **more)
            stack.callback(machine.stop)
            return machine

        desk = start("desk", None)
        nodes = [start("one", desk), start("two", desk)]
        addresses = [f"127.0.0.1:{node.port}" for node in nodes]
        with nginx.running(folder / "nginx", addresses, (port, port + 1)) as proxy:
            yield Village(desk, nodes, proxy)


def test_node_killed_under_paying_customers_loses_nothing(village: Village) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    bank = village.desk.bank()
    people = [(village.customer(), f"payer{number:02}") for number in range(1, PAYERS + 1)]
    homes = [customer.sign_in(name) for customer, name in people]
    errors: list[BaseException] = []

    def pay_once(customer: Customer, home: str) -> None:
        time.sleep(dice.uniform(0, PAY_WITHIN_SECONDS))
        try:
            village.acknowledged.append(pay(customer, home, bank))
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            errors.append(error)

    threads = [
        threading.Thread(target=pay_once, args=(customer, home))
        for (customer, _name), home in zip(people, homes, strict=True)
    ]
    keeper = village.customer()
    keepers_home = keeper.sign_in("payer20")
    for thread in threads:
        thread.start()
    one, two = village.nodes
    time.sleep(dice.uniform(0, 0.5))
    one.kill()
    # The other has every session: nobody has to sign in again.
    status, _location, page = keeper.send(keepers_home)
    assert status == 200
    one.start_again()
    two.kill()
    # And a form of the one that is gone counts at this one.
    village.acknowledged.append(pay(keeper, keepers_home, bank, page))
    two.start_again()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(set(village.acknowledged)) == PAYERS + 1
    print(f"sent again: {sum(customer.failures for customer, _name in people)}")
    check_books(bank, village.desk.env, village.acknowledged)


def test_nodes_exchanged_in_turn_lose_no_request(village: Village) -> None:
    """Reloaded one after the other, with people reading and paying meanwhile."""
    bank = village.desk.bank()
    reader, payer = village.customer(), village.customer()
    home = reader.sign_in("payer21")
    payer_home = payer.sign_in("payer22")

    connect = village.proxy.connect
    signed_in = {"Cookie": reader.cookies()}
    empty = "sign_in_id=&password="
    clients = [
        Client(connect, "GET", home, 200, signed_in, keeps=True),
        Client(connect, "GET", home, 200, signed_in),
        Client(connect, "POST", "/sign-in", 422, FORM | signed_in, empty, keeps=True),
        Client(connect, "POST", "/sign-in", 422, FORM | signed_in, empty),
    ]
    with under_load(clients) as load:
        paying = threading.Thread(target=_pay_into, args=(village, payer, payer_home, bank))
        paying.start()
        for node in village.nodes:
            node.reload()
        paying.join()
    assert load.faults == []
    assert load.answers > 50
    assert payer.failures == 0
    check_books(bank, village.desk.env, village.acknowledged)


def _pay_into(village: Village, payer: Customer, home: str, bank: SandboxControl) -> None:
    village.acknowledged.append(pay(payer, home, bank))


def test_form_that_a_dead_node_may_have_read_is_not_sent_to_the_other(
    village: Village, tmp_path: Path
) -> None:
    """A page is asked for at the other node; a form only if no byte of it was sent."""
    with nginx.deaf_node() as deaf:
        good = f"127.0.0.1:{village.nodes[0].port}"
        with nginx.running(tmp_path / "nginx", [deaf.address, good]) as proxy:
            for _ in range(4):
                assert proxy.ask("GET", "/help")[0] == 200
            assert deaf.requests  # some were asked of it first
            statuses = []
            for _ in range(6):
                time.sleep(0.7)  # until nginx tries that node again
                statuses.append(proxy.ask("POST", "/sign-in", "a=b")[0])
            assert 503 in statuses
            assert deaf.requests[-1].startswith(b"POST")
