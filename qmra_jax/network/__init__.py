"""The paper's network: predicts a query frame's mask from memory frames with boxes."""
