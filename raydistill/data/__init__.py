"""Detection data: COCO JSON, PASCAL VOC and generated shapes, augmentation, loaders."""
