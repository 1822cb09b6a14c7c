"""Writes the fixtures `trained` of classic models: scikit-learn and xgboost train, coremltools converts.

    python tools/classic_sklearn.py

What a model is to give is what the library that trained it says; its converter is coremltools' own. It needs another
environment than the other tools, for coremltools converts no newer scikit-learn:

    pip install coremltools==9.0 scikit-learn==1.5.1 xgboost==1.7.6
"""

import shutil
import warnings

import coremltools as ct
import numpy as np
import xgboost
from coremltools.converters import sklearn as converter
from coremltools.converters import xgboost as xgboost_converter
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction import DictVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR, NuSVC, NuSVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from classic_cases.case import FOLDER, Case, write

NAMES = ["a", "b", "c", "d"]
RUNS = 20
WRITTEN = []
x_reg, y_reg = make_regression(80, 4, noise=5.0, random_state=0)


def classes(count, labels=None):
    x, y = make_classification(120, 4, n_informative=4, n_redundant=0, n_classes=count, n_clusters_per_class=1, random_state=count)
    return x, np.array(labels)[y] if labels else y


def save(name, model, inputs, outputs, tolerance=1e-6):
    case = Case("trained", name, model.get_spec(), list(zip(inputs, outputs)), tolerance)
    write(case)
    WRITTEN.append(name)


def columns(x):
    return [dict(zip(NAMES, row)) for row in x[:RUNS]]


def regressor(name, model, tolerance=1e-6):
    model.fit(x_reg, y_reg)
    made = converter.convert(model, NAMES, "y")
    save(name, made, columns(x_reg), [{"y": y} for y in model.predict(x_reg)], tolerance)


def classifier(name, model, count=2, labels=None, probabilities=True, tolerance=1e-6):
    x, y = classes(count, labels)
    model.fit(x, y)
    made = converter.convert(model, NAMES, "y")
    outputs = [{"y": label} for label in model.predict(x)]
    if probabilities:
        for output, p in zip(outputs, model.predict_proba(x)):
            # Where a support vector classifier votes for another class than has the best probability, its label is
            # libsvm's with probabilities.
            output["y"] = model.classes_[int(np.argmax(p))]
            output["classProbability"] = dict(zip(model.classes_, p))
    save(name, made, columns(x), outputs, tolerance)


def transformer(name, model, x, inputs, tolerance=1e-9, names=NAMES):
    output = model.fit_transform(x)
    output = output.toarray() if hasattr(output, "toarray") else np.asarray(output)
    made = converter.convert(model, names, "y")
    save(name, made, inputs, [{"y": row} for row in output], tolerance)


def support_vectors():
    for kernel in ("linear", "rbf", "poly", "sigmoid"):
        regressor(f"svr_{kernel}", SVR(kernel=kernel, gamma=0.05, coef0=0.5, max_iter=500))
        classifier(f"svc_{kernel}", SVC(kernel=kernel, gamma=0.2, coef0=0.5), 3, ["x", "y", "z"], probabilities=False)
    regressor("nu_svr", NuSVR())
    classifier("nu_svc", NuSVC(), 2, probabilities=False)
    classifier("svc_four_probabilities", SVC(probability=True, random_state=0), 4, [12, 33, -1, 1234])
    classifier("nu_svc_three_probabilities", NuSVC(probability=True, random_state=0), 3, ["x", "y", "z"])
    # Between two classes scikit-learn iterates towards Platt's probability, which Core ML and newer libsvm give as it is.
    classifier("svc_two_probabilities", SVC(probability=True, random_state=0), 2, ["foo", "bar"], tolerance=5e-3)
    regressor("linear_svr", LinearSVR(random_state=0, max_iter=5000))


def trees():
    regressor("decision_tree_regressor", DecisionTreeRegressor(max_depth=4, random_state=0))
    regressor("random_forest_regressor", RandomForestRegressor(5, max_depth=3, random_state=0))
    regressor("gradient_boosting_regressor", GradientBoostingRegressor(n_estimators=5, random_state=0))
    for count, labels in ((2, None), (3, ["x", "y", "z"])):
        classifier(f"decision_tree_{count}", DecisionTreeClassifier(max_depth=3, random_state=0), count, labels)
        forest = RandomForestClassifier(5, max_depth=3, random_state=0)
        # With more than two classes the converter adds the trees' probabilities up and does not divide them.
        classifier(f"random_forest_{count}", forest, count, labels, probabilities=count == 2)
        classifier(f"gradient_boosting_{count}", GradientBoostingClassifier(n_estimators=5, random_state=0), count, labels)


def neighbors():
    for algorithm in ("brute", "kd_tree"):
        x, y = classes(3)
        x = x.astype(np.float32)
        model = KNeighborsClassifier(5, algorithm=algorithm, leaf_size=7).fit(x, y)
        made = converter.convert(model, "x", "y")
        away = x[:RUNS] + 0.25
        save(f"k_neighbors_{algorithm}", made, [{"x": row} for row in away], [{"y": y} for y in model.predict(away)])


def transformers():
    x = np.abs(x_reg) + 0.1
    transformer("standard_scaler", StandardScaler(), x, columns(x))
    for norm in ("l1", "l2", "max"):
        transformer(f"normalizer_{norm}", Normalizer(norm=norm), x, columns(x))
    missing = np.round(x_reg, 2)
    missing[::3, 1] = missing[1::4, 3] = -999
    for strategy in ("mean", "median", "most_frequent"):
        model = SimpleImputer(missing_values=-999, strategy=strategy)
        transformer(f"imputer_{strategy}", model, missing, columns(missing))
    categories = np.array([[0, 1], [1, 0], [2, 2], [3, 3], [4, 4]], dtype=float)
    inputs = [dict(zip(NAMES, row)) for row in categories]
    transformer("one_hot_encoder", OneHotEncoder(), categories, inputs, names=NAMES[:2])
    rows = [{"foo": 1, "bar": 3}, {"bar": 4, "baz": 2}, {"bar": 1, "quux": 1, "quuux": 2}]
    model = DictVectorizer()
    expected = model.fit_transform(rows).toarray()
    made = converter.convert(model, "x", "y")
    rows, expected = [*rows, {}, {"nothing": 21}], [*expected, *np.zeros((2, 5))]
    save("dict_vectorizer", made, [{"x": row} for row in rows], [{"y": row} for row in expected])


def pipelines():
    scaled = Pipeline([("scale", StandardScaler()), ("norm", Normalizer()), ("svr", SVR())])
    regressor("pipeline_regressor", scaled)
    classifier("pipeline_classifier", Pipeline([("scale", StandardScaler()), ("trees", GradientBoostingClassifier(n_estimators=3))]), 3)
    rng = np.random.RandomState(0)
    rows = [{int(key): 1 for key in rng.randint(30, size=8)} for _ in range(60)]
    labels = [0, 1] * 30
    model = Pipeline([("words", DictVectorizer()), ("linear", LogisticRegression(multi_class="ovr"))]).fit(rows, labels)
    made = converter.convert(model, "x", "y")
    outputs = []
    for label, p in zip(model.predict(rows), model.predict_proba(rows)):
        outputs.append({"y": label, "classProbability": dict(zip(model.classes_, p))})
    save("pipeline_of_numbers_as_keys", made, [{"x": row} for row in rows[:RUNS]], outputs)


def boosted():
    x, missing = x_reg.copy(), np.random.RandomState(0).rand(*x_reg.shape) < 0.1
    x[missing] = np.nan
    model = xgboost.XGBRegressor(n_estimators=6, max_depth=3).fit(x, y_reg)
    made = xgboost_converter.convert(model, NAMES, "y")
    save("xgboost_regressor", made, columns(x), [{"y": y} for y in model.predict(x)], 1e-5)
    for count in (2, 3):
        x, y = classes(count)
        x[:, 1][::5] = np.nan
        model = xgboost.XGBClassifier(n_estimators=6, max_depth=3).fit(x, y)
        made = xgboost_converter.convert(model, NAMES, "y", mode="classifier")
        outputs = []
        for label, p in zip(model.predict(x), model.predict_proba(x)):
            outputs.append({"y": label, "classProbability": dict(zip(range(count), p))})
        save(f"xgboost_{count}", made, columns(x), outputs, 1e-5)


def main():
    warnings.simplefilter("ignore")
    shutil.rmtree(FOLDER / "trained", ignore_errors=True)
    regressor("linear_regression", LinearRegression())
    regressor("ridge", Ridge())
    for count, labels in ((2, None), (2, ["foo", "bar"]), (4, [1, 2, 3, 4])):
        name = f"logistic_{count}_{'words' if labels and isinstance(labels[0], str) else 'numbers'}"
        classifier(name, LogisticRegression(multi_class="ovr"), count, labels)
    classifier("linear_svc", LinearSVC(), 3, probabilities=False)
    support_vectors()
    trees()
    neighbors()
    transformers()
    pipelines()
    boosted()
    print(f"{len(WRITTEN)} models by scikit-learn and xgboost, converted by coremltools {ct.__version__}")


if __name__ == "__main__":
    main()
