# Who is told, when, and what one sees.

resource "aws_sns_topic" "alarms" {
  count = var.create && var.alarm_email != null ? 1 : 0

  region = var.region
  name   = module.figures.names.alarm_topic

  tags = var.tags
}

resource "aws_sns_topic_subscription" "alarms" {
  count = var.create && var.alarm_email != null ? 1 : 0

  region    = var.region
  topic_arn = aws_sns_topic.alarms[0].arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = { for key, alarm in module.figures.alarms : key => alarm if var.create }

  region              = var.region
  alarm_name          = each.value.name
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric_name
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = each.value.period
  evaluation_periods  = each.value.evaluation_periods
  threshold           = each.value.threshold
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = concat(compact([var.alarm_topic_arn]), aws_sns_topic.alarms[*].arn)

  tags = var.tags
}

resource "aws_cloudwatch_dashboard" "this" {
  count = var.create ? 1 : 0

  region         = var.region
  dashboard_name = module.figures.names.dashboard
  dashboard_body = jsonencode({
    widgets = [
      for widget in module.figures.widgets : {
        type   = "metric"
        x      = widget.x
        y      = widget.y
        width  = widget.width
        height = widget.height
        properties = {
          title   = widget.title
          region  = data.aws_region.current.region
          view    = "timeSeries"
          stat    = widget.stat
          period  = widget.period
          metrics = widget.metrics
        }
      }
    ]
  })
}
