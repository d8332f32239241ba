"""What each report says, as papers without a medium: of an audit, a drill, a seal and a period."""
