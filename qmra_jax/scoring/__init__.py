"""Scores predicted masks as the benchmarks' own tools do, with tables and reports."""
