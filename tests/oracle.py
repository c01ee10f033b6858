"""A second implementation of every loss, in NumPy with loops, written from the papers. Shares no line with the package.

Numbers are ragged: x[p][k][t] for prompt p, answer k, token t, no padding and no mask;
rewards[p][k], None for an answer that nothing was said of. Every function returns the loss's
parts per prompt, {name: [P]}, to be minimised; the batch's loss is the mean over prompts of their sum. Numbers may be complex: with
x + i h v and a tiny h the imaginary part over h is the derivative along v to the last bit (the complex step), so that an oracle of the
loss is one of its gradient. Comparisons read the real part.
"""

from __future__ import annotations

import numpy as np


def mean(xs):
    xs = list(xs)
    return sum(xs) / len(xs)


def smaller(a, b):
    return a if np.real(a) <= np.real(b) else b


def larger(a, b):
    return a if np.real(a) >= np.real(b) else b


def clip(x, low, high):
    return smaller(larger(x, low), high)


def log_sigmoid(x):
    """log(1 / (1 + e^-x)), without overflow on either side."""
    return -np.log(1 + np.exp(-x)) if np.real(x) > 0 else x - np.log(1 + np.exp(x))


def deviation(xs, correction):
    centre = mean(xs)
    return np.sqrt(sum((x - centre) ** 2 for x in xs) / (len(xs) - correction))


def all_equal(xs):
    """Up to a millionth of the largest, or half of 1e-9, which rounding may leave."""
    spread = max(xs, default=0.0) - min(xs, default=0.0)
    return spread <= max(1e-6 * max(map(abs, xs), default=0.0), 5e-10)


def said(rewards):
    """Those that there are."""
    return [reward for reward in rewards if reward is not None]


def tokens(batch):
    """Every number of [p][k][t], in order."""
    return [x for row in batch for answer in row for x in answer]


# SFT: arXiv 2508.07750, Eq. 1, and the cross-entropy over all tokens


def sft(logp, *, reduction):
    """K = 1: the reference. sequence_mean: -J(y). token_mean: the batch's loss is -sum of all / N, of which a prompt holds P times its
    own sum / N."""
    if reduction == "sequence_mean":
        return {"imitation": [-mean(row[0]) for row in logp]}
    return {"imitation": [-len(logp) * sum(row[0]) / len(tokens(logp)) for row in logp]}


# DPO: arXiv 2305.18290, Eq. 7; conservative DPO: Mitchell 2023; IPO: arXiv 2310.12036, Eq. 17


def log_ratio_margin(row, reference_row, reduce):
    chosen, rejected = ([a - b for a, b in zip(row[k], reference_row[k], strict=True)] for k in (0, 1))
    return reduce(chosen) - reduce(rejected)


def dpo(logp, reference_logp, *, beta, label_smoothing):
    """K = 2: chosen, rejected. p(chosen wins) = sigmoid(beta D); the cross-entropy against a label of 1 - e."""
    losses = []
    for row, reference_row in zip(logp, reference_logp, strict=True):
        D = log_ratio_margin(row, reference_row, sum)
        losses.append(-((1 - label_smoothing) * log_sigmoid(beta * D) + label_smoothing * log_sigmoid(-beta * D)))
    return {"preference": losses}


def ipo(logp, reference_logp, *, beta, length):
    reduce = {"sum": sum, "mean": mean}[length]
    margins = [log_ratio_margin(row, reference_row, reduce) for row, reference_row in zip(logp, reference_logp, strict=True)]
    return {"preference": [(D - 1 / (2 * beta)) ** 2 for D in margins]}


# PPO: arXiv 1707.06347 (Eq. 7 and 9), 1506.02438 (Eq. 16), 1909.08593 (Eq. 2)


def ppo_advantages(rewards, old_logp, reference_logp, old_values, *, kl, gamma, lam):
    """(advantages before whitening, returns) [p][k][t]; the double sum over l of (gamma lambda)^l delta_{t+l}."""
    advantages, returns = [], []
    for p, row in enumerate(old_logp):
        advantages.append([])
        returns.append([])
        for k, answer in enumerate(row):
            n, V = len(answer), [*old_values[p][k], 0.0]
            R = rewards[p][k] or 0.0
            r = [-kl * (answer[t] - reference_logp[p][k][t]) for t in range(n)]
            r[-1] = r[-1] + R
            delta = [r[t] + gamma * V[t + 1] - V[t] for t in range(n)]
            A = [sum((gamma * lam) ** step * delta[t + step] for step in range(n - t)) for t in range(n)]
            advantages[-1].append(A)
            returns[-1].append([A[t] + V[t] for t in range(n)])
    return advantages, returns


def learned(xs, rewards):
    """xs[p][k] without the answers that nothing was said of."""
    pairs = zip(xs, rewards, strict=True)
    return [[x for x, reward in zip(*pair, strict=True) if reward is not None] for pair in pairs]


def whitened(advantages, rewards):
    """Over every token that is learned from: zero mean, unbiased unit variance, 1e-8 under the
    root (TRL 1.12); 0 on the others."""
    flat = tokens(learned(advantages, rewards))
    centre = mean(flat) if flat else 0.0
    variance = sum((a - centre) ** 2 for a in flat) / max(len(flat) - 1, 1)
    scale = np.sqrt(variance + 1e-8)
    white = [[[(a - centre) / scale for a in one] for one in row] for row in advantages]
    for row, given in zip(white, rewards, strict=True):
        row[:] = [[0.0] * len(one) if R is None else one for one, R in zip(row, given, strict=True)]
    return white


def ppo(logp, values, rewards, old_logp, reference_logp, old_values, **fields):
    advantages, returns = ppo_advantages(
        rewards, old_logp, reference_logp, old_values, kl=fields["kl"], gamma=fields["gamma"], lam=fields["lam"]
    )
    advantages = whitened(advantages, rewards)
    share = len(logp) / max(1, len(tokens(learned(logp, rewards))))
    policy, value = [], []
    for p, row in enumerate(logp):
        policy_sum = value_sum = 0.0
        for k, answer in enumerate(row):
            for t, x in enumerate(answer if rewards[p][k] is not None else []):
                A, R, V, V_old = advantages[p][k][t], returns[p][k][t], values[p][k][t], old_values[p][k][t]
                ratio = np.exp(x - old_logp[p][k][t])
                policy_sum = policy_sum - smaller(ratio * A, clip(ratio, 1 - fields["clip"], 1 + fields["clip"]) * A)
                V_clipped = clip(V, V_old - fields["value_clip"], V_old + fields["value_clip"])
                value_sum = value_sum + larger((V - R) ** 2, (V_clipped - R) ** 2) / 2
        policy.append(share * policy_sum)
        value.append(fields["value_coef"] * share * value_sum)
    return {"policy": policy, "value": value}


# GRPO: arXiv 2402.03300; Dr. GRPO: 2503.20783; DAPO: 2503.14476; GSPO: 2507.18071; the deviations and epsilons as TRL 1.16 has them


def grpo_advantages(rewards, std):
    rows = []
    for everyone in rewards:
        group = said(everyone)
        if all_equal(group):
            rows.append([0.0] * len(everyone))
            continue
        if std == "batch":
            scale = deviation([reward for other in rewards for reward in said(other)], 1) + 1e-4
        else:
            scale = {"population": lambda g: deviation(g, 0), "sample": lambda g: deviation(g, 1) + 1e-4, "none": lambda g: 1.0}[std](group)
        rows.append([0.0 if R is None else (R - mean(group)) / scale for R in everyone])
    return rows


def kl_term(x, reference, ratio, estimator, gradient):
    if estimator == "k1":
        k = x - reference
    elif estimator == "k2":
        k = (x - reference) ** 2 / 2
    else:
        k = np.exp(reference - x) - 1 - (reference - x)
    return ratio * k if gradient == "corrected" else k


def grpo(logp, rewards, old_logp, reference_logp, **fields):
    """Losses of tokens, reduced over an answer, over a group, over the batch, in the order that each paper has."""
    advantages = grpo_advantages(rewards, fields["std"])
    N, P = len(tokens(logp)), len(logp)
    parts = {"policy": [], "kl": []}
    for p, row in enumerate(logp):
        sums = {"policy": [], "kl": []}
        for i, answer in enumerate(row):
            A, n = advantages[p][i], len(answer)
            log_ratios = [answer[t] - old_logp[p][i][t] for t in range(n)]
            if fields["ratio"] == "sequence":
                log_ratios = [mean(log_ratios)] * n
            ratios = [np.exp(each) for each in log_ratios]
            policy = sum(-smaller(r * A, clip(r, 1 - fields["clip_low"], 1 + fields["clip_high"]) * A) for r in ratios)
            kl = 0.0
            if fields["kl"] > 0:
                kl = fields["kl"] * sum(
                    kl_term(answer[t], reference_logp[p][i][t], ratios[t], fields["kl_estimator"], fields["kl_gradient"]) for t in range(n)
                )
            divisor = {"answer_mean": n, "token_mean": N / P, "constant_length": fields["max_tokens"]}[fields["reduction"]]
            sums["policy"].append(policy / divisor)
            sums["kl"].append(kl / divisor)
        for name, values in sums.items():
            parts[name].append(sum(values) if fields["reduction"] == "token_mean" else mean(values))
    return parts if fields["kl"] > 0 else {"policy": parts["policy"]}


# GRAO: arXiv 2508.07750, Eq. 3 and 4, each query's K = G + 1 answers with the reference last


def grao_advantages(group_rewards, group):
    """(A_1 .. A_G, A_y)."""
    outputs, y = list(group_rewards[:-1]), group_rewards[-1]
    members = said(outputs if group == "outputs" else [*outputs, y])
    if all_equal(members):
        return [0.0] * len(outputs), 0.0
    centre, scale = mean(members), deviation(members, 0)
    A_o = [0.0 if reward is None else (reward - centre) / scale for reward in outputs]
    return A_o, (y - centre) / scale


def grao_symbols(logp, rewards, group):
    """Per query: J(o_i), J(y), A_i, A_y."""
    for row, group_rewards in zip(logp, rewards, strict=True):
        A_o, A_y = grao_advantages(group_rewards, group)
        yield [mean(answer) for answer in row[:-1]], mean(row[-1]), A_o, A_y


def grao(logp, rewards, *, alpha, beta, lam, group):
    """Eq. 3, the three terms of the sum over i."""
    parts = {"exploration": [], "imitation": [], "regulariser": []}
    for J_o, J_y, A_o, A_y in grao_symbols(logp, rewards, group):
        G = len(J_o)
        parts["exploration"].append(-sum(alpha * A_o[i] * J_o[i] for i in range(G)) / G)
        parts["imitation"].append(-sum(beta * A_y * J_y for _ in range(G)) / G)
        parts["regulariser"].append(-sum(lam * A_o[i] * (J_o[i] - J_y) for i in range(G)) / G)
    return parts


def grao_reference_only(logp, rewards, *, alpha, beta, lam, group):
    """Eq. 3 less the regulariser's lambda A_i J(o_i)."""
    parts = grao(logp, rewards, alpha=alpha, beta=beta, lam=lam, group=group)
    for p, (J_o, _, A_o, _) in enumerate(grao_symbols(logp, rewards, group)):
        parts["regulariser"][p] += lam * mean(a * j for a, j in zip(A_o, J_o, strict=True))
    return parts


def grao_clip0(logp, rewards, *, alpha, beta, lam, group):
    """(alpha + lambda) mean A_i J(o_i) + beta max(A_y, 0) J(y)."""
    parts = {"exploration": [], "imitation": []}
    for J_o, J_y, A_o, A_y in grao_symbols(logp, rewards, group):
        parts["exploration"].append(-(alpha + lam) * mean(a * j for a, j in zip(A_o, J_o, strict=True)))
        parts["imitation"].append(-beta * max(A_y, 0.0) * J_y)
    return parts
