"""Forwarding rules: of the settings, and added while the archive runs."""

import pytest

from archive.auth.principal import ANONYMOUS, OPERATOR
from archive.config import ConfigError, DimseSection, ForwardRule, load_config
from archive.errors import ForbiddenError, InvalidRequestError
from archive.forward.rules import check_rules
from tests.builders import dataset, part10
from tests.conftest import make_config, running_archive, store

RULE = ForwardRule(name="chest", to="READING", where="Modality=CT")


@pytest.fixture
def rules(tmp_path):
    section = DimseSection(port=0, forward=(ForwardRule(name="fixed", to="BACKUP"),))
    with running_archive(make_config(tmp_path / "data", dimse=section)) as archive:
        yield archive.forward.rules


def test_rules_of_the_settings_and_added_ones_stand_side_by_side(rules):
    assert rules.add(OPERATOR, RULE) is False
    assert rules.add(OPERATOR, RULE.model_copy(update={"settle_s": 5.0})) is True
    assert [rule.name for rule in rules.all()] == ["chest", "fixed"]
    assert rules.find("chest").settle_s == 5.0
    assert rules.remove(OPERATOR, "chest") is True
    assert rules.remove(OPERATOR, "chest") is False
    assert rules.find("chest") is None


def test_a_rule_of_the_settings_is_changed_there(rules):
    with pytest.raises(InvalidRequestError, match="settings"):
        rules.add(OPERATOR, ForwardRule(name="fixed", to="OTHER"))
    with pytest.raises(InvalidRequestError, match="settings"):
        rules.remove(OPERATOR, "fixed")


def test_only_who_administers_changes_rules(rules):
    with pytest.raises(ForbiddenError):
        rules.add(ANONYMOUS, RULE)
    with pytest.raises(ForbiddenError):
        rules.remove(ANONYMOUS, "chest")


def test_a_search_that_is_wrong_makes_no_rule(rules):
    with pytest.raises(InvalidRequestError, match="did you mean Modality"):
        rules.add(OPERATOR, RULE.model_copy(update={"where": "Modalty=CT"}))
    assert rules.find("chest") is None


def test_settings_with_a_wrong_search_say_where(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('[[dimse.forward]]\nname = "a"\nto = "B"\nwhere = "Modalty=CT"\n')
    with pytest.raises(ConfigError, match=r"\[\[dimse.forward\]\] a: where: .*Modality"):
        check_rules(load_config(file).dimse.forward)
    file.write_text('[[dimse.forward]]\nname = "a"\nto = "B"\n' * 2)
    with pytest.raises(ConfigError, match="two rules named a"):
        check_rules(load_config(file).dimse.forward)
    file.write_text('[[dimse.forward]]\nname = "a"\nto = "B"\nwher = "Modality=CT"\n')
    with pytest.raises(ConfigError, match="'where'"):
        load_config(file)


def test_rules_hold_from_when_they_are_first_known(tmp_path):
    def opened(*names):
        rules = tuple(ForwardRule(name=name, to="SINK") for name in names)
        section = DimseSection(port=0, forward=rules)
        return running_archive(make_config(tmp_path / "data", dimse=section))

    def keep(archive, number: int) -> None:
        store(archive, part10(dataset("1.2", "1.2.1", f"1.2.1.{number}")))

    with opened("a") as archive:
        keep(archive, 1)
    with opened("a", "b") as archive:
        rules = archive.forward.rules
        assert (rules.since("a"), rules.since("b")) == (0, 1)
        rules.add(OPERATOR, RULE)
        assert rules.since("chest") == 1
        assert {rule.name for rule in rules.all()} == {"a", "b", "chest"}
        keep(archive, 2)
    with opened("b"):
        pass
    with opened("a", "b") as archive:  # it was gone for a while
        rules = archive.forward.rules
        assert [rules.since(name) for name in ("a", "b", "chest")] == [2, 1, 1]
