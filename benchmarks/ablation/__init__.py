"""The paper's Table 3, or other rows: networks trained and evaluated alike, and compared."""
