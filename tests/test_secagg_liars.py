"""Wrong shares: the secret all the same, who gave them, and where that ends."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secagg_parties import UNTIMED, Parties, parameters, plain_sum

from fedcourse.secagg import Round, correction, enrol, errors, keys, messages, shamir
from fedcourse.secagg.shamir import PRIME

# --- the arithmetic -------------------------------------------------------------------------------


def deal(dealers, holders, threshold):
    """By dealer: its secret, and the shares of it that were dealt."""
    values = {dealer: random.Random(dealer).randrange(PRIME) for dealer in range(1, dealers + 1)}
    return values, {d: shamir.share(value, threshold, holders) for d, value in values.items()}


def find(holders, values, shares):
    """By dealer, what is found; and how many numbers were held against the secrets."""
    tries = []

    def check(dealer):
        return lambda number: tries.append(dealer) or number == values[dealer]

    return {d: holders.secret(d, shares[d], check(d)) for d in values}, len(tries)


@UNTIMED
@given(st.data(), st.sets(st.integers(1, 500), min_size=1, max_size=9), st.integers())
def test_among_few_any_liars_who_leave_t_honest_are_named(data, indices, seed):
    """Of some secrets or of all they give shares of their own, with no plan in common."""
    indices, lie = sorted(indices), random.Random(seed)
    threshold = data.draw(st.integers(1, len(indices)))
    spare = len(indices) - threshold
    values, shares = deal(4, indices, threshold)
    lies = {}
    for liar in sorted(data.draw(st.sets(st.sampled_from(indices), max_size=spare))):
        for dealer in sorted(data.draw(st.sets(st.integers(1, 4), min_size=1))):
            shares[dealer][liar] = (shares[dealer][liar] + lie.randrange(1, PRIME)) % PRIME
            lies.setdefault(liar, dealer)
    holders = correction.Holders(indices, threshold)
    assert holders.most_wrong == spare
    assert find(holders, values, shares)[0] == values
    assert holders.caught == lies


@pytest.mark.parametrize("liars", [0, 1, 7, 14, 15, 29])
def test_among_many_half_of_those_to_spare_are_named_and_more_end_soon(liars, monkeypatch):
    """60 holders, 31 needed: 29 to spare, and far more ways to choose than could be tried."""
    indices, lie = list(range(1, 61)), random.Random(0)
    values, shares = deal(3, indices, 31)
    wrong = lie.sample(indices, liars)
    for dealer in values:
        for liar in wrong:
            shares[dealer][liar] = lie.randrange(PRIME)
    holders = correction.Holders(indices, 31)
    assert holders.most_wrong == 14
    searches, locate = [], holders._locate
    monkeypatch.setattr(holders, "_locate", lambda given: searches.append(1) or locate(given))
    found, tries = find(holders, values, shares)
    if liars <= 14:
        assert found == values and holders.caught == dict.fromkeys(wrong, 1)
        assert len(searches) == min(liars, 1), "whoever was caught once is not searched again"
    else:
        assert found == dict.fromkeys(values) and holders.caught == {}
    assert tries <= 3, "a check or none for each secret"


def test_liars_are_found_one_after_the_other():
    """Each lies about another secret; all together they are more than half of those to spare."""
    indices = list(range(1, 41))
    values, shares = deal(10, indices, 21)  # 19 to spare
    for liar in range(1, 19):
        shares[1 + liar // 2][liar] += 1
    holders = correction.Holders(indices, 21)
    assert find(holders, values, shares)[0] == values
    assert holders.caught == {liar: 1 + liar // 2 for liar in range(1, 19)}


def shifted(shares, liars, threshold, through=()):
    """Liars' shares moved by a polynomial that is 0 at 0: together they stay on a smooth curve."""
    assert len(through) + 1 < threshold
    move = {x: x * math.prod(x - k for k in through) for x in liars}
    return shares | {x: (shares[x] + move[x]) % PRIME for x in liars}


def test_liars_who_agree_among_themselves_are_named_up_to_half():
    indices = list(range(1, 13))
    values, shares = deal(1, indices, 6)  # 6 to spare
    shares[1] = shifted(shares[1], [2, 5, 9], 6, through=[1, 3, 4])
    holders = correction.Holders(indices, 6)
    assert find(holders, values, shares)[0] == values
    assert holders.caught == dict.fromkeys([2, 5, 9], 1)


def test_liars_beyond_half_who_agree_may_escape_but_change_nothing():
    """Two of five, threshold 3: with client 1 they look no worse than the three honest ones."""
    values, shares = deal(1, range(1, 6), 3)
    shares[1] = shifted(shares[1], [4, 5], 3, through=[1])
    holders = correction.Holders(range(1, 6), 3)
    assert find(holders, values, shares)[0] == values
    assert holders.caught == {}


def test_wrong_shares_that_cancel_are_noticed():
    """The sum that gives the secret is right; a random one beside it is not."""
    indices = list(range(1, 10))
    weights = shamir.weights_at_zero(indices)
    values, shares = deal(1, indices, 5)
    right = dict(shares[1])
    shares[1][3] += weights[7]
    shares[1][7] -= weights[3]
    assert shamir.reconstruct(shares[1]) == shamir.reconstruct(right) == values[1]
    holders = correction.Holders(indices, 5)
    assert find(holders, values, shares)[0] == values
    assert holders.caught == {3: 1, 7: 1}


def test_shares_that_agree_on_another_secret_are_not_searched():
    """Nobody but the dealer can have done that, or all: there is no other way to read them."""
    values, shares = deal(1, range(1, 13), 7)
    holders = correction.Holders(range(1, 13), 7)
    found, tries = find(holders, {1: values[1] + 1}, shares)
    assert found == {1: None} and tries == 2 and holders.caught == {}


def test_search_has_an_end():
    """16 holders, 9 needed: the most that are tried one by one; 17 are too many."""
    assert math.comb(16, 9) <= correction.SUBSETS < math.comb(17, 9)
    values, shares = deal(1, range(1, 17), 9)
    for liar in range(1, 9):  # one more than could be left out
        shares[1][liar] += liar**liar
    holders = correction.Holders(range(1, 17), 9)
    found, tries = find(holders, values, shares)
    assert found == {1: None} and tries <= math.comb(16, 9) + 2
    assert correction.Holders(range(1, 17), 9).most_wrong == 7
    assert correction.Holders(range(1, 18), 9).most_wrong == 4


def test_nobody_to_spare_means_nobody_to_name():
    values, shares = deal(2, range(1, 5), 4)
    shares[2][3] += 1
    holders = correction.Holders(range(1, 5), 4)
    assert find(holders, values, shares)[0] == {1: values[1], 2: None}
    assert holders.most_wrong == 0 and holders.caught == {}


# --- in a session ---------------------------------------------------------------------------------

ENROLLED = enrol(7)
EVERYBODY = range(1, 8)


def table_of(here, u, answer):
    body = here.server._links[u].open(u, Round.UNMASK, answer)
    return messages.read_table(body, here.p.clients, [shamir.SHARE_BYTES])


def unmask(lies, silent=(), threshold=4, active=False):
    """A session of seven up to its last round, in which `lies` says what whose table becomes."""
    here = Parties(parameters(7, threshold, active=active), enrolment=ENROLLED)
    here.play(until=Round.MASK)
    for current in here.p.rounds[2:-1]:
        here.play_one(current, silent)
    for u, answer in here.answers(silent).items():
        if u in lies:
            table = lies[u](table_of(here, u, answer))
            answer = here.say(u, Round.UNMASK, messages.write_table(table))
        here.server.receive(answer)
    return here


def about(*owners):
    """A lie about some clients' secrets: 32 bytes that are nobody's share."""
    return lambda table: table | {v: [bytes([v]) * 32] for v in owners}


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("silent", [(), (7,)])
@pytest.mark.parametrize(
    ("liars", "owners"), [([1], [3]), ([1, 2], [7]), ([2, 3], EVERYBODY), ([6], EVERYBODY)]
)
def test_sum_is_right_and_the_liars_are_named(liars, owners, silent, active):
    """Whether they are first or last in line, and lie about a seed or a mask key."""
    if active and silent:
        liars = liars[:1]
    here = unmask({u: about(*owners) for u in liars}, silent, 5 if active else 4, active)
    there = [u for u in EVERYBODY if u not in silent]
    assert here.server.liars == {}
    assert here.server.total().tolist() == plain_sum(here.data, there, here.p.bits)
    assert here.server.liars == dict.fromkeys(liars, owners[0])
    with pytest.raises(errors.WrongRound):
        here.server.total()


@pytest.mark.parametrize("liars", [[5, 6, 7], [1, 2, 3], [1, 4, 7]])
def test_threshold_of_honest_answers_is_enough(liars):
    here = unmask({u: about(*EVERYBODY) for u in liars})
    assert here.server.total().tolist() == plain_sum(here.data, EVERYBODY, here.p.bits)
    assert sorted(here.server.liars) == liars


@pytest.mark.parametrize(("silent", "what"), [((), "seed"), ((7,), "mask key")])
def test_fewer_honest_answers_give_an_error_and_no_sum(silent, what):
    lies = {1: about(2, 7)} | {u: about(7) for u in (2, 3, 4)}
    here = unmask(lies, silent)
    said = f"shares of client 7's {what} are wrong.*more than [23] of [67] clients.*{{1: 2}}"
    with pytest.raises(errors.Inconsistent, match=said):
        here.server.total()
    assert here.server.liars == {1: 2}
    with pytest.raises(errors.WrongRound):
        here.server.total()


def test_another_commitment_than_was_shared_is_the_clients_own_fault():
    """Then no one knows which mask it used: there is no sum, and an error that names it."""
    here = Parties(parameters(7, 4), enrolment=ENROLLED).play(until=Round.MASK)
    for u, answer in here.answers().items():
        if u == 5:
            vector, _ = messages.read(here.server._links[u].open(u, Round.MASK, answer))
            answer = here.say(u, Round.MASK, messages.write([vector, bytes(32)]))
        here.server.receive(answer)
    here.down = here.server.advance()
    for answer in here.answers().values():
        here.server.receive(answer)
    with pytest.raises(errors.Inconsistent, match="client 5 dealt others than it committed to"):
        here.server.total()
    assert here.server.liars == {}


def dealt(change):
    """A session in which client 5 deals client 2 something else than its share of the seed."""
    here = Parties(parameters(7, 4), enrolment=ENROLLED).play(until=Round.SHARE)
    dealer, victim = here.clients[5], here.clients[2]
    for u, answer in here.answers().items():
        if u == 5:
            table = {r[0]: r[1:] for r in messages.read(dealer._link.open(5, Round.SHARE, answer))}
            of = (dealer._me, victim._me)
            key = keys.channel_key(dealer._channel_private, of[0], *of, here.p.context)
            aside = messages.about_shares(here.p.context, 5, 2)
            pair = keys.unseal(key, table[2][0], aside)
            seed = change(int.from_bytes(pair[32:], "little")).to_bytes(32, "little")
            table[2] = [keys.seal(key, pair[:32] + seed, aside)]
            answer = here.say(5, Round.SHARE, messages.write_table(table))
        here.server.receive(answer)
    here.down = here.server.advance()
    here.play_one(Round.MASK)
    here.play_one(Round.UNMASK)
    assert here.server.total().tolist() == plain_sum(here.data, EVERYBODY, here.p.bits)
    return here.server.liars


def test_dealer_of_a_wrong_share_costs_no_sum_but_makes_its_holder_look_guilty():
    """As `correction.Holders` says: nobody but these two could tell."""
    assert dealt(lambda share: (share + 1) % PRIME) == {2: 5}


def test_share_that_was_dealt_unreduced_is_still_right():
    assert dealt(lambda share: share + PRIME) == {}
