"""Golden values of tests/online.rs: river 0.26.1, and McMahan's FTRL-Proximal in plain Python. Prints Rust."""
from math import exp, sqrt

from river import linear_model, optim, preprocessing

ROWS = 240


def row(i):
    """Two numbers, the second of which is sometimes missing, and a category."""
    x = {"a": (i * 37 % 101) / 10.0, "b": (i * 53 % 97) / 97.0 - 0.25}
    if i % 7 == 3:
        del x["b"]
    return x, {f"c={'xyz'[i * i % 3]}": 1.0}


def target(i, binary):
    x, c = row(i)
    value = 0.4 * x["a"] - 3.0 * x.get("b", 0.5) + (1.5 if "c=x" in c else 0.0) + (i * 29 % 31) / 31.0
    return int(value > 2.5) if binary else value * 10.0 + 40.0


def river(model, scaled, binary):
    scaler = preprocessing.StandardScaler()

    def features(i):
        x, c = row(i)
        return {**(scaler.transform_one(x) if scaled else x), **c}

    for i in range(ROWS):
        scaler.learn_one(row(i)[0])
        model.learn_one(features(i), target(i, binary))
    predict = (lambda x: model.predict_proba_one(x)[True]) if binary else model.predict_one
    return [predict(features(i)) for i in range(4)]


class Ftrl:
    """Algorithm 1 of McMahan and others 2013. The intercept is a coordinate without penalties."""

    def __init__(self, binary, alpha, beta, l1, l2):
        self.binary, self.alpha, self.beta, self.l1, self.l2 = binary, alpha, beta, l1, l2
        self.z, self.n = {}, {}

    def weight(self, i):
        l1, l2 = (0.0, 0.0) if i is None else (self.l1, self.l2)
        z, n = self.z.get(i, 0.0), self.n.get(i, 0.0)
        sign = 1.0 if z > 0 else -1.0
        return 0.0 if abs(z) <= l1 else -(z - sign * l1) / ((self.beta + sqrt(n)) / self.alpha + l2)

    def predict_one(self, x):
        raw = sum(self.weight(i) * v for i, v in x.items()) + self.weight(None)
        return 1.0 / (1.0 + exp(-raw)) if self.binary else raw

    def predict_proba_one(self, x):
        return {True: self.predict_one(x)}

    def learn_one(self, x, y):
        slope = (self.predict_one(x) - y) * (1.0 if self.binary else 2.0)
        for i, v in {**x, None: 1.0}.items():
            w, g, n = self.weight(i), slope * v, self.n.get(i, 0.0)
            sigma = (sqrt(n + g * g) - sqrt(n)) / self.alpha
            self.z[i] = self.z.get(i, 0.0) + g - sigma * w
            self.n[i] = n + g * g


logistic, linear = linear_model.LogisticRegression, linear_model.LinearRegression
SGD, Ada, Inverse = optim.SGD, optim.AdaGrad, optim.schedulers.InverseScaling
for name, model, scaled, binary in [
    ("logistic(SGD(0.05))", logistic(SGD(0.05)), False, True),
    ("scaler | logistic(SGD(0.05))", logistic(SGD(0.05)), True, True),
    ("scaler | logistic(SGD(Inverse(0.5, 0.5)), l2=0.01, intercept_lr=0.1)",
     logistic(SGD(Inverse(0.5, 0.5)), l2=0.01, intercept_lr=0.1), True, True),
    ("logistic(Ada(0.1))", logistic(Ada(0.1)), False, True),
    ("scaler | logistic(Ada(0.1), l2=0.05)", logistic(Ada(0.1), l2=0.05), True, True),
    ("linear(SGD(0.005))", linear(SGD(0.005)), False, False),
    ("scaler | linear(SGD(0.02), l2=0.1, clip_gradient=20)", linear(SGD(0.02), l2=0.1, clip_gradient=20.0), True, False),
    ("scaler | linear(Ada(0.5))", linear(Ada(0.5)), True, False),
    ("scaler | target scaler(linear(Ada(0.1)))",
     preprocessing.TargetStandardScaler(linear(Ada(0.1))), True, False),
    ("FTRL(0.1, 1, 0, 0)", Ftrl(True, 0.1, 1.0, 0.0, 0.0), False, True),
    ("scaler | FTRL(0.3, 0.5, 0.8, 2)", Ftrl(True, 0.3, 0.5, 0.8, 2.0), True, True),
    ("scaler | linear FTRL(2, 1, 0.5, 0.1)", Ftrl(False, 2.0, 1.0, 0.5, 0.1), True, False),
]:
    print(f"    // {name}\n    {river(model, scaled, binary)!r},")
