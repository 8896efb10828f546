"""Identity, and how it is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.model.ids import ObjectId, ObjectType, group_of

WRITTEN = [
    ("Deployment.apps/web/front", ObjectId(group="apps", kind="Deployment", namespace="web", name="front")),
    ("ConfigMap/web/settings", ObjectId(group="", kind="ConfigMap", namespace="web", name="settings")),
    ("Namespace/web", ObjectId(group="", kind="Namespace", namespace="", name="web")),
    (
        "ClusterRole.rbac.authorization.k8s.io/system:node",
        ObjectId(group="rbac.authorization.k8s.io", kind="ClusterRole", namespace="", name="system:node"),
    ),
    (
        "CustomResourceDefinition.apiextensions.k8s.io/carts.shop.example",
        ObjectId(
            group="apiextensions.k8s.io", kind="CustomResourceDefinition", namespace="", name="carts.shop.example"
        ),
    ),
]


@pytest.mark.parametrize(("text", "object_id"), WRITTEN)
def test_empty_parts_are_left_out(text: str, object_id: ObjectId) -> None:
    assert str(object_id) == text


@pytest.mark.parametrize(("text", "object_id"), WRITTEN)
def test_what_is_written_is_read_again(text: str, object_id: ObjectId) -> None:
    assert ObjectId.parse(text) == object_id


@pytest.mark.parametrize(
    "text", ["", "ConfigMap", "/", "ConfigMap/", "/web", "ConfigMap//x", "a/b/c/d", "ConfigMap/web/"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not Kind\.group/namespace/name"):
        ObjectId.parse(text)


_word = st.text("abcXYZ019-:", min_size=1, max_size=8)


@given(st.builds(ObjectId, group=st.just("") | st.from_regex(r"[a-z]{1,5}(\.[a-z]{1,5}){0,2}", fullmatch=True),
                 kind=_word, namespace=st.just("") | _word, name=_word | st.just("a.b")))  # fmt: skip
def test_every_identity_survives_being_written(object_id: ObjectId) -> None:
    assert ObjectId.parse(str(object_id)) == object_id


@pytest.mark.parametrize(
    ("api_version", "group"), [("v1", ""), ("apps/v1", "apps"), ("a.b.c/v1beta1", "a.b.c"), ("", "")]
)
def test_the_group_of_a_version(api_version: str, group: str) -> None:
    assert group_of(api_version) == group


def test_a_type_is_written_with_its_version() -> None:
    kind = ObjectType(api_version="apps/v1", kind="Deployment")

    assert (str(kind), kind.group) == ("Deployment.apps/v1", "apps")


def test_identities_sort_by_group_kind_namespace_and_name() -> None:
    identities = [object_id for _, object_id in WRITTEN]

    in_order = [str(object_id) for object_id in sorted(identities)]

    assert in_order == [
        "ConfigMap/web/settings",
        "Namespace/web",
        "CustomResourceDefinition.apiextensions.k8s.io/carts.shop.example",
        "Deployment.apps/web/front",
        "ClusterRole.rbac.authorization.k8s.io/system:node",
    ]
