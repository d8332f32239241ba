"""Pure drawing: a model, a time and a width in, styled lines out. No widget, no clock, no state."""
