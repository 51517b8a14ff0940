# Bodies that are too big for SQS. The function deletes them when their message is settled; the
# lifecycle removes what nobody came for.

resource "aws_s3_bucket" "payloads" {
  count = var.create ? 1 : 0

  region        = var.region
  bucket_prefix = module.figures.names.bucket_prefix

  tags = var.tags

  # A message whose body is gone cannot be read.
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "payloads" {
  count = var.create ? 1 : 0

  region = var.region
  bucket = aws_s3_bucket.payloads[0].id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "payloads" {
  count = var.create ? 1 : 0

  region                  = var.region
  bucket                  = aws_s3_bucket.payloads[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "payloads" {
  count = var.create ? 1 : 0

  region = var.region
  bucket = aws_s3_bucket.payloads[0].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "payloads" {
  count = var.create ? 1 : 0

  region = var.region
  bucket = aws_s3_bucket.payloads[0].id

  rule {
    id     = "expire-payloads"
    status = "Enabled"

    filter {}

    expiration {
      days = module.figures.payload_days
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

data "aws_iam_policy_document" "payloads" {
  count = var.create ? 1 : 0

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.payloads[0].arn, "${aws_s3_bucket.payloads[0].arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "payloads" {
  count = var.create ? 1 : 0

  region = var.region
  bucket = aws_s3_bucket.payloads[0].id
  policy = data.aws_iam_policy_document.payloads[0].json

  # While public policies are being blocked, S3 refuses to set another one.
  depends_on = [aws_s3_bucket_public_access_block.payloads]
}
