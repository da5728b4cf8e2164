"""Golden values of src/calibrate.rs: Platt's smoothed targets, fitted by scipy to rounding, and by scikit-learn."""
import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.calibration import _SigmoidCalibration

scores = np.array([(i * 37 % 101 + 1) / 103 for i in range(90)])
labels = np.array([float(0.2 + 0.5 * s > (i * 29 % 31) / 31) for i, s in enumerate(scores)])
x, n1 = logit(scores), labels.sum()
t = np.where(labels == 1, (n1 + 1) / (n1 + 2), 1 / (len(labels) - n1 + 2))


def loss(ab):
    z = ab[0] * x + ab[1]
    return np.sum(np.logaddexp(0, z) - t * z)


def gradient(ab):
    e = expit(ab[0] * x + ab[1]) - t
    return np.array([e @ x, e.sum()])


found = minimize(loss, [0.0, 0.0], jac=gradient, method="BFGS", options={"gtol": 1e-12})
print("scipy", [float(v) for v in found.x], gradient(found.x))
sk = _SigmoidCalibration().fit(x, labels)
print("sklearn", -float(sk.a_), -float(sk.b_))
