#!/usr/bin/env python3
"""Golden p-values of the Kolmogorov-Smirnov test by scipy: writes ks_cases.rs beside this file.

    python make_ks_cases.py     # scipy 1.17.1
"""
import math
import os

import numpy as np
from scipy import stats
from scipy.stats._stats_py import _attempt_exact_2kssamp


def main():
    lines = ["/// `scipy.stats.kstwo.sf(x, n)`: (n, x, p). Made by make_ks_cases.py.",
             "pub const KSTWO_SF: &[(f64, f64, f64)] = &["]
    for n in (1, 2, 5, 17, 100, 140, 141, 150, 1000, 5000, 12973, 50000, 99999, 100001, 500000, 1000000, 1000001, 20000000):
        xs = [0.4 / n, 0.7 / n, 1 / n, 1.5 / n, 1 - 0.5 / n, 0.5, 0.7]
        xs += [math.sqrt(z / n) for z in (0.01, 0.05, 0.1, 0.3, 0.7, 0.8, 1, 1.5, 2.1, 2.3, 3.9, 4.1, 10, 17, 19, 100, 300, 369, 371)]
        for x in sorted({x for x in xs if 0 < x < 1}):
            p = float(stats.kstwo.sf(x, n))
            if p > 1e-300:
                lines.append(f"    ({float(n)!r}, {x!r}, {p!r}),")
    lines += ["];", "", "/// scipy's exact two-sample p-value: (n, m, numerator of D over n * m, p). Made by make_ks_cases.py.",
              "pub const KS_2SAMP_EXACT: &[(u64, u64, u128, f64)] = &["]
    rng = np.random.default_rng(7)
    for n, m in ((1, 1), (1, 5), (7, 7), (7, 12), (18, 19), (100, 100), (100, 150), (999, 1000), (2226, 2010), (3000, 3000),
                 (50, 4000), (10000, 10000), (9973, 9967)):
        g = math.gcd(n, m)
        lcm = n // g * m
        for d in sorted({1 / lcm, *(min(1.0, z / math.sqrt(n * m / (n + m))) for z in (0.3, 0.8, 1.2, 2, 5, 12)), 1.0}):
            h = max(1, round(d * lcm))
            ok, _, p = _attempt_exact_2kssamp(n, m, g, h / lcm, "two-sided")
            if ok and p > 1e-300:
                lines.append(f"    ({n}, {m}, {h * g}, {float(p)!r}),")
    lines.append("];")
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "ks_cases.rs"), "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")


main()
