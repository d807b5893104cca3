"""What stressbench expects of every model; for what each check means, see its docs/checking-a-model.md."""

from stressbench.testing import check_model, random_dataset


def test_it_keeps_what_models_promise() -> None:
    check_model("example-net")


def test_it_takes_options_and_other_datasets() -> None:
    check_model("example-net,width=4", random_dataset(classes=100, image_size=(64, 64)))
