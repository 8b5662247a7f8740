"""The paper's network: a query frame, a memory of frames with boxes, a mask."""
