"""Writes the fixtures of classic models, `crates/coreml-classic/tests/classic`.

    python tools/classic_fixtures.py                        all types
    python tools/classic_fixtures.py scaler pipeline        only these types

Every `<type>/<case>` folder gets a `model.mlmodel` (or, where the model has weights beside it, a `model.mlpackage`)
and `cases.json`: a tolerance, and inputs with expected outputs by feature name. Numbers that JSON does not have are
the strings "nan", "inf" and "-inf". Models are made message by message. The expected values come from numpy and from
arithmetic written out in `classic_cases`; never from the project's own evaluation.

`classic_sklearn.py` adds the type `trained`: models that scikit-learn and xgboost trained and coremltools converted.
"""

import importlib
import pkgutil
import shutil
import sys
import warnings

import classic_cases
from classic_cases.case import CASES, FOLDER, write

NOT_OURS = {"trained"}


def main(wanted: list[str]) -> None:
    warnings.simplefilter("ignore")
    for module in pkgutil.iter_modules(classic_cases.__path__):
        importlib.import_module(f"classic_cases.{module.name}")
    if unknown := set(wanted) - {case.type for case in CASES}:
        raise SystemExit(f"no such type: {', '.join(sorted(unknown))}")
    paths = [case.path for case in CASES]
    if repeated := {path for path in paths if paths.count(path) > 1}:
        raise SystemExit(f"two cases have the same name: {repeated}")
    for kind in wanted or [x.name for x in FOLDER.glob("*") if x.is_dir() and x.name not in NOT_OURS]:
        shutil.rmtree(FOLDER / kind, ignore_errors=True)
    written = [case for case in CASES if not wanted or case.type in wanted]
    for case in written:
        write(case)
    print(f"{len(written)} models of {len({case.type for case in written})} types")


if __name__ == "__main__":
    main(sys.argv[1:])
